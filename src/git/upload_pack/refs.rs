//! The capability advertisement and `ls-refs`: what the client sees before it asks for objects.

use std::io::Write;

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice as _},
    refs::{Reference, Target},
};
use gix_transport::packetline::blocking_io::encode;

use super::{Error, request::LsRefs, source::Source};

/// Say what this server can do (gitprotocol-v2, "Capability Advertisement").
pub(super) fn advertise(source: &Source<'_>, write: &mut impl Write) -> Result<(), Error> {
    let agent = concat!("agent=gitsocket/", env!("CARGO_PKG_VERSION"));
    let format = format!("object-format={}", source.repo.object_hash());
    for line in ["version 2", agent, "ls-refs=unborn", "fetch=shallow", &format] {
        encode::text_to_write(line.as_bytes(), &mut *write).map_err(Error::Gone)?;
    }
    end(write)
}

/// Answer `ls-refs`.
pub(super) fn list(source: &Source<'_>, request: &LsRefs, write: &mut impl Write) -> Result<(), Error> {
    let wanted = |name: &BStr| {
        request.prefixes.is_empty() || request.prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let mut tell = |reference: Reference| {
        if wanted(reference.name.as_bstr())
            && let Some(line) = line(source, request, &reference)?
        {
            encode::text_to_write(&line, &mut *write).map_err(Error::Gone)?;
        }
        Ok(())
    };
    if let Some(head) = head(source)? {
        tell(head)?;
    }
    if let Some(dir) = common_dir(&request.prefixes) {
        each(source, dir, tell)?;
    }
    end(write)
}

/// The directory that all refs are in whose names begin with one of `prefixes`; `None`: there are none but HEAD.
fn common_dir(prefixes: &[BString]) -> Option<&BStr> {
    let mut others = prefixes.iter().filter(|prefix| *prefix != "HEAD");
    let dir = match (prefixes, others.next()) {
        ([], _) => ALL,
        (_, None) => return None,
        (_, Some(first)) => {
            let is_in =
                |dir: &[u8]| dir.ends_with(b"/") && others.clone().all(|other| other.starts_with(dir));
            let dirs = (0..=first.len()).rev().map(|end| &first[..end]);
            dirs.into_iter().find(|dir| is_in(dir)).unwrap_or_default()
        }
    };
    Some(if dir.starts_with(ALL) { dir } else { ALL }.as_bstr())
}

/// Where refs are, except HEAD.
const ALL: &[u8] = b"refs/";

/// The annotated tags under `refs/tags/`, each with the object that it comes down to.
pub(super) fn tags(source: &Source<'_>) -> Result<Vec<super::objects::Peeled>, Error> {
    let mut out = Vec::new();
    each(source, b"refs/tags/".as_bstr(), |reference| {
        if let Some(id) = reference.target.try_id()
            && let Ok(Some(peeled)) = source.objects.peel(&id.to_owned())
            && !peeled.tags.is_empty()
        {
            out.push(peeled);
        }
        Ok(())
    })?;
    Ok(out)
}

fn end(write: &mut impl Write) -> Result<(), Error> {
    encode::flush_to_write(&mut *write)
        .and_then(|_| write.flush())
        .map_err(Error::Gone)
}

/// One line of the answer, or nothing for a symbolic ref that leads nowhere.
fn line(source: &Source<'_>, request: &LsRefs, reference: &Reference) -> Result<Option<BString>, Error> {
    let name = reference.name.as_bstr();
    let mut attributes = BString::default();
    let target = resolve(source, &reference.target);
    if let (Target::Symbolic(leads_to), true) = (&reference.target, request.symrefs) {
        attributes.extend_from_slice(b" symref-target:");
        attributes.extend_from_slice(leads_to.as_bstr());
    }
    let first = match target {
        Some(id) => {
            // A branch is at a commit.
            if request.peel && !is_branch(reference) {
                attributes.extend_from_slice(peeled(source, reference, &id).as_bytes());
            }
            id.to_string()
        }
        None if name == "HEAD" && request.unborn && request.symrefs => "unborn".into(),
        None => return Ok(None),
    };
    Ok(Some(format!("{first} {name}{attributes}").into_bytes().into()))
}

/// ` peeled:ID` if `id` is that of a tag. A broken one is listed all the same: fetching it will say what is wrong.
fn peeled(source: &Source<'_>, reference: &Reference, id: &ObjectId) -> String {
    let target = match reference.peeled {
        Some(target) => Some(target),
        None => source.objects.peel(id).ok().flatten().map(|peeled| peeled.id),
    };
    match target {
        Some(target) if target != *id => format!(" peeled:{target}"),
        _ => String::new(),
    }
}

/// Whether `reference` is a branch, or HEAD where that is on one.
fn is_branch(reference: &Reference) -> bool {
    let name = match &reference.target {
        Target::Symbolic(name) => name,
        Target::Object(_) => &reference.name,
    };
    name.as_bstr().starts_with(b"refs/heads/")
}

/// HEAD, which linked worktrees have one of each; none if it is broken.
fn head(source: &Source<'_>) -> Result<Option<Reference>, Error> {
    source
        .repo
        .refs
        .try_find("HEAD")
        .map_err(|source| Error::Repository { what: "HEAD", source })
}

/// Call `tell` with all refs below `dir` in the order of their names, of which there may be more than memory holds; those that are
/// no refs are left out, as git does.
fn each(
    source: &Source<'_>,
    dir: &BStr,
    mut tell: impl FnMut(Reference) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Repository {
        what: "the refs",
        source,
    };
    let platform = source.repo.references().map_err(failed)?;
    let below = if dir.as_bytes() == ALL {
        platform.all()
    } else {
        platform.prefixed(dir).or_else(|_| platform.all())
    };
    for reference in below.map_err(failed)? {
        match reference {
            Ok(reference) => {
                source.check()?;
                tell(reference.inner)?;
            }
            Err(err) if is_unreadable(&err) => return Err(failed(err)),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether it is the system that does not let us read, rather than that there is nothing sensible to read.
fn is_unreadable(err: &gix::Error) -> bool {
    err.downcast_any_ref::<std::io::Error>().is_some_and(|err| {
        !matches!(
            err.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidData | std::io::ErrorKind::Other
        )
    })
}

/// The object that `target` leads to, over a few symbolic refs.
fn resolve(source: &Source<'_>, target: &Target) -> Option<ObjectId> {
    let mut target = target.clone();
    // As git's SYMREF_MAXDEPTH.
    for _ in 0..5 {
        match target {
            Target::Object(id) => return Some(id),
            Target::Symbolic(name) => target = source.repo.refs.try_find(name.as_ref()).ok()??.target,
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_gone_through() {
        for (prefixes, dir) in [
            (&[][..], Some("refs/")),
            (&["HEAD"], None),
            (&["refs/heads/main"], Some("refs/heads/")),
            (&["refs/heads/"], Some("refs/heads/")),
            (&["HEAD", "refs/heads/a/b"], Some("refs/heads/a/")),
            (&["refs/heads/a", "refs/heads/b/c"], Some("refs/heads/")),
            (&["refs/heads/a", "refs/tags/a"], Some("refs/")),
            (&["refs/heads/a", "re"], Some("refs/")),
            (&["x/y"], Some("refs/")),
        ] {
            let prefixes: Vec<BString> = prefixes.iter().map(|prefix| (*prefix).into()).collect();
            assert_eq!(common_dir(&prefixes), dir.map(BStr::new), "{prefixes:?}");
        }
    }
}
