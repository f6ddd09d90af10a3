//! The capability advertisement and `ls-refs`: what the client sees before it asks for objects.

use std::io::Write;

use gix::{
    ObjectId,
    bstr::{BStr, BString},
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
    each(source, tell)?;
    end(write)
}

/// The annotated tags under `refs/tags/`, each with the object that it comes down to.
pub(super) fn tags(source: &Source<'_>) -> Result<Vec<super::objects::Peeled>, Error> {
    let mut out = Vec::new();
    each(source, |reference| {
        if reference.name.as_bstr().starts_with(b"refs/tags/")
            && let Some(id) = reference.target.try_id()
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
            if request.peel {
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

/// HEAD, which linked worktrees have one of each; none if it is broken.
fn head(source: &Source<'_>) -> Result<Option<Reference>, Error> {
    source
        .repo
        .refs
        .try_find("HEAD")
        .map_err(|source| Error::Repository { what: "HEAD", source })
}

/// Call `tell` with all refs in the order of their names, of which there may be more than memory holds; those that are
/// no refs are left out, as git does.
fn each(source: &Source<'_>, mut tell: impl FnMut(Reference) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |source| Error::Repository {
        what: "the refs",
        source,
    };
    let platform = source.repo.references().map_err(failed)?;
    for reference in platform.all().map_err(failed)? {
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
