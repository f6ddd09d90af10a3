//! The acknowledgments of `fetch`: which of the client's commits are known here, and whether they suffice.

use std::io::Write;

use gix::{
    ObjectId,
    hashtable::{HashMap, HashSet},
    objs::Kind,
};
use gix_transport::packetline::blocking_io::encode;

use super::{Error, objects::Peeled, request::Fetch, source::Source};

/// What the client has that is known here.
pub(super) struct Common {
    /// The ids as the client named them.
    pub(super) ids: Vec<ObjectId>,
    /// The commits that they come down to.
    pub(super) commits: Vec<ObjectId>,
}

/// Find out what the client has in common with this repository.
pub(super) fn common(source: &Source<'_>, haves: &[ObjectId]) -> Result<Common, Error> {
    let mut out = Common {
        ids: Vec::new(),
        commits: Vec::new(),
    };
    for id in haves {
        source.check()?;
        // Damage in what the client has already is no reason to refuse the rest.
        if let true = source.objects.has(id)
            && let Ok(Some(peeled)) = source.objects.peel(id)
        {
            out.ids.push(*id);
            if peeled.kind == Kind::Commit {
                out.commits.push(peeled.id);
            }
        }
    }
    Ok(out)
}

/// Write the acknowledgments where they are due, and tell whether the pack follows.
pub(super) fn acknowledge(
    source: &Source<'_>,
    request: &Fetch,
    wants: &[Peeled],
    common: &Common,
    write: &mut impl Write,
) -> Result<bool, Error> {
    if request.done || request.haves.is_empty() {
        return Ok(true);
    }
    let ready = suffices(source, wants, common)?;
    acknowledgments(common, ready, write).map_err(Error::Gone)?;
    Ok(ready)
}

fn acknowledgments(common: &Common, ready: bool, write: &mut impl Write) -> std::io::Result<()> {
    encode::text_to_write(b"acknowledgments", &mut *write)?;
    if common.ids.is_empty() {
        encode::text_to_write(b"NAK", &mut *write)?;
    }
    for id in &common.ids {
        encode::text_to_write(format!("ACK {id}").as_bytes(), &mut *write)?;
    }
    if ready {
        encode::text_to_write(b"ready", &mut *write)?;
        encode::delim_to_write(&mut *write)?;
    } else {
        encode::flush_to_write(&mut *write)?;
    }
    write.flush()
}

/// Whether each wanted commit has a common one among its ancestors, so that more haves would not make the pack
/// much smaller (git's `ok_to_give_up`). Nothing older than the oldest common commit is looked at.
fn suffices(source: &Source<'_>, wants: &[Peeled], common: &Common) -> Result<bool, Error> {
    if common.ids.is_empty() {
        return Ok(false);
    }
    let known: HashSet = common.commits.iter().copied().collect();
    let mut oldest = i64::MAX;
    for id in &known {
        if let Some(commit) = source.objects.commit(id)? {
            oldest = oldest.min(commit.time);
        }
    }
    let wants = || {
        wants
            .iter()
            .filter(|want| want.kind == Kind::Commit)
            .map(|want| want.id)
    };
    let family = descend(source, wants(), &known, oldest)?;
    let reached = ascend(&family, known);
    Ok(wants().all(|id| reached.contains(&id)))
}

/// The children of each commit between `tips` and `known`.
fn descend(
    source: &Source<'_>,
    tips: impl Iterator<Item = ObjectId>,
    known: &HashSet,
    oldest: i64,
) -> Result<HashMap<ObjectId, Vec<ObjectId>>, Error> {
    let mut children = HashMap::<ObjectId, Vec<ObjectId>>::default();
    let mut stack: Vec<_> = tips.collect();
    let mut seen: HashSet = stack.iter().copied().collect();
    let mut links = 0;
    while let Some(id) = stack.pop() {
        source.check_count(links)?;
        if known.contains(&id) {
            continue;
        }
        let Some(commit) = source.objects.commit(&id)?.filter(|commit| commit.time >= oldest) else {
            continue;
        };
        links += 1 + commit.parents.len();
        for parent in commit.parents {
            children.entry(parent).or_default().push(id);
            if seen.insert(parent) {
                stack.push(parent);
            }
        }
    }
    Ok(children)
}

/// `known` and all that descends from it.
fn ascend(children: &HashMap<ObjectId, Vec<ObjectId>>, known: HashSet) -> HashSet {
    let mut stack: Vec<_> = known.iter().copied().collect();
    let mut reached = known;
    while let Some(id) = stack.pop() {
        for child in children.get(&id).into_iter().flatten() {
            if reached.insert(*child) {
                stack.push(*child);
            }
        }
    }
    reached
}
