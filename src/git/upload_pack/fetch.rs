//! `fetch`: from a request to a pack.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use gix::{ObjectId, hashtable::HashSet, objs::Kind};
use gix_transport::packetline::blocking_io::encode;

use super::{
    Error, negotiate,
    objects::Peeled,
    pack::{self, Bands},
    refs,
    request::{self, Fetch},
    selection::{self, Selection},
    shallow::Boundary,
    source::Source,
    trees::Collector,
};

pub(super) enum Answer {
    /// The client has nothing more to ask.
    None,
    Short,
    Pack,
}

/// Answer `fetch` (gitprotocol-v2, "fetch").
pub(super) fn run(source: &Source<'_>, request: &Fetch, write: &mut impl Write) -> Result<Answer, Error> {
    if request.wants.is_empty() {
        return Err(request::Error::Unsupported("a fetch that wants nothing").into());
    }
    let wants = wants(source, &request.wants)?;
    let common = negotiate::common(source, &request.haves)?;
    if !negotiate::acknowledge(source, request, &wants, &common, write)? {
        return Ok(Answer::Short);
    }
    let mut tips: Vec<_> = wants
        .iter()
        .filter(|want| want.kind == Kind::Commit)
        .map(|want| want.id)
        .collect();
    let boundary = Boundary::new(source, request, &tips)?;
    tips.extend_from_slice(&boundary.parents);
    let mut haves = common.commits.clone();
    haves.extend_from_slice(&boundary.unshallow);
    let selection = selection::select(source, &tips, &haves, &boundary.cut)?;

    boundary.write(&selection, write)?;
    encode::text_to_write(b"packfile", &mut *write).map_err(Error::Gone)?;
    let mut bands = Bands::new(write, request.no_progress);
    let sent = objects(
        source,
        request,
        &wants,
        &common.ids,
        &haves,
        &selection,
        &mut bands,
    )
    .and_then(|ids| pack::write(source, ids, &mut bands));
    match sent {
        Ok(()) => bands.end().map(|()| Answer::Pack),
        Err(err) => {
            // git looks for errors in a band here; gix for the packet that every error ends in.
            bands.fail(&format!("{}\n", err.text()));
            Err(err)
        }
    }
}

/// The ids of all objects to send.
fn objects(
    source: &Source<'_>,
    request: &Fetch,
    wants: &[Peeled],
    common: &[ObjectId],
    haves: &[ObjectId],
    selection: &Selection,
    bands: &mut Bands<'_, impl Write>,
) -> Result<Vec<ObjectId>, Error> {
    let mut progress = Counting::new(bands);
    let mut tell = |count| progress.tell(count);
    let mut collector = Collector::new(source, &mut tell);
    collector.wants(wants, common)?;
    collector.commits(selection, haves)?;
    if request.include_tag {
        include_tags(source, selection, &mut collector)?;
    }
    let ids = collector.finish();
    progress.end(ids.len())?;
    Ok(ids)
}

/// What the client wants, peeled.
fn wants(source: &Source<'_>, ids: &[ObjectId]) -> Result<Vec<Peeled>, Error> {
    ids.iter()
        .map(|id| source.objects.peel(id)?.ok_or(Error::NotOurs { id: *id }))
        .collect()
}

/// Add the annotated tags that point to commits that are sent.
fn include_tags(
    source: &Source<'_>,
    selection: &Selection,
    collector: &mut Collector<'_>,
) -> Result<(), Error> {
    let sent: HashSet = selection.commits.iter().copied().collect();
    for tag in refs::tags(source)? {
        if sent.contains(&tag.id) {
            collector.tags(&tag)?;
        }
    }
    Ok(())
}

/// Progress of counting objects, in the words of git, which clients know how to show.
struct Counting<'a, 'w, W> {
    bands: &'a mut Bands<'w, W>,
    last: Instant,
}

impl<'a, 'w, W: Write> Counting<'a, 'w, W> {
    fn new(bands: &'a mut Bands<'w, W>) -> Self {
        Self {
            bands,
            last: Instant::now(),
        }
    }

    fn tell(&mut self, count: usize) -> Result<(), Error> {
        // A look at the clock costs more than an object.
        if count.is_multiple_of(512) && self.last.elapsed() > Duration::from_millis(100) {
            self.last = Instant::now();
            self.bands.progress(&format!("Counting objects: {count}\r"))?;
        }
        Ok(())
    }

    fn end(&mut self, count: usize) -> Result<(), Error> {
        self.bands
            .progress(&format!("Counting objects: {count}, done.\n"))
    }
}
