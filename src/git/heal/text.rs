//! The small files of a git directory: `HEAD`, refs, `packed-refs`, `shallow`. Lines that make no sense go, and what can be
//! written again by git at any time goes as a whole.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use gix::{ObjectId, bstr::ByteSlice as _, refs::FullName};

use super::{
    Error, unread,
    workshop::{Workshop, id_of, replace},
};
use crate::{
    base::{bounded, fault::if_there},
    git::origin::{Origin, Revision},
};

/// The files that are written again.
pub(super) const FILES: [&str; 3] = ["HEAD", "packed-refs", "shallow"];

/// Mend all of them. Gives what there is to say about it.
pub(super) fn mend(workshop: &Workshop, origin: &Origin) -> Result<Vec<String>, Error> {
    let mut said = Vec::new();
    caches(workshop);
    head(workshop, origin, &mut said)?;
    loose_refs(workshop, &mut said)?;
    packed_refs(workshop, &mut said)?;
    shallow(workshop, &mut said)?;
    Ok(said)
}

/// Indices over packs and commits only save time, and may be as damaged as what they are about.
fn caches(workshop: &Workshop) {
    let objects = workshop.git_dir.join("objects");
    for name in ["pack/multi-pack-index", "info/commit-graph"] {
        drop(fs::remove_file(objects.join(name)));
    }
    for name in ["pack/multi-pack-index.d", "info/commit-graphs"] {
        drop(fs::remove_dir_all(objects.join(name)));
    }
}

fn head(workshop: &Workshop, origin: &Origin, said: &mut Vec<String>) -> Result<(), Error> {
    let path = workshop.git_dir.join("HEAD");
    if is_ref(&workshop.git_dir, &path)? {
        return Ok(());
    }
    let branch = match &origin.revision {
        Revision::Branch(name) => name.as_str(),
        _ => "refs/heads/main",
    };
    if fs::symlink_metadata(&path).is_ok() {
        workshop.put_aside(&path, "HEAD")?;
    }
    said.push(format!("HEAD was damaged, and is on {branch} now"));
    replace(workshop, &path, format!("ref: {branch}\n").as_bytes())
}

/// Whether the file is what git takes for a ref.
fn is_ref(git_dir: &Path, path: &Path) -> Result<bool, Error> {
    let text = unread::or_damaged(git_dir, path, bounded::read(path, bounded::LINE))?;
    Ok(text.is_some_and(|text| match text.strip_prefix(b"ref: ") {
        Some(name) => is_name(name.trim()),
        None => text
            .lines()
            .next()
            .is_some_and(|line| id_of(line.trim()).is_some()),
    }))
}

fn is_name(name: &[u8]) -> bool {
    name.starts_with(b"refs/") && FullName::try_from(name.as_bstr()).is_ok()
}

fn loose_refs(workshop: &Workshop, said: &mut Vec<String>) -> Result<(), Error> {
    let mut dirs = vec![workshop.git_dir.join("refs")];
    for dir in ["refs/heads", "refs/tags"] {
        let dir = workshop.git_dir.join(dir);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    }
    let mut number = 0;
    while let Some(dir) = dirs.pop() {
        for path in list(&dir)? {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            if meta.is_dir() {
                dirs.push(path);
            } else if !meta.is_symlink() && !is_ref(&workshop.git_dir, &path)? {
                let name = path.strip_prefix(&workshop.git_dir).unwrap_or(&path).display();
                said.push(format!(
                    "the ref {name} was damaged, and is gone; its reflog has what it was"
                ));
                number += 1;
                workshop.put_aside(&path, &format!("ref-{number}"))?;
            }
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = if_there(fs::read_dir(dir)).map_err(Error::io("list", dir))?;
    let entries = entries.into_iter().flatten().filter_map(Result::ok);
    Ok(entries.map(|entry| entry.path()).collect())
}

/// A packed ref, and what its tag comes to.
type Packed = (ObjectId, Option<ObjectId>);

fn packed_refs(workshop: &Workshop, said: &mut Vec<String>) -> Result<(), Error> {
    let path = workshop.git_dir.join("packed-refs");
    let text = match bounded::read(&path, bounded::LIST) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => unread::or_damaged(&workshop.git_dir, &path, text)?.unwrap_or_default(),
    };
    let (refs, bad) = parse_packed(&text);
    let mut sorted = b"# pack-refs with: peeled fully-peeled sorted \n".to_vec();
    for (name, (id, peeled)) in &refs {
        sorted.extend_from_slice(format!("{id} ").as_bytes());
        sorted.extend_from_slice(name);
        sorted.push(b'\n');
        if let Some(peeled) = peeled {
            sorted.extend_from_slice(format!("^{peeled}\n").as_bytes());
        }
    }
    let lines = |text: &[u8]| {
        text.lines()
            .filter(|line| !line.starts_with(b"#"))
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let is_header_fine = text.is_empty() || text.starts_with(b"# pack-refs with:") || !text.starts_with(b"#");
    if bad == 0 && is_header_fine && lines(&text) == lines(&sorted) {
        return Ok(());
    }
    if bad > 0 {
        said.push(format!("packed-refs was damaged: {bad} lines of it are gone"));
    }
    workshop.put_aside(&path, "packed-refs")?;
    replace(workshop, &path, &sorted)
}

/// The refs in `packed-refs`, and how many lines make no sense.
fn parse_packed(text: &[u8]) -> (BTreeMap<Vec<u8>, Packed>, usize) {
    let (mut refs, mut bad, mut last) = (BTreeMap::new(), 0, None::<Vec<u8>>);
    for line in text.lines().filter(|line| !line.starts_with(b"#")) {
        if let Some(peeled) = line.strip_prefix(b"^") {
            match (id_of(peeled), last.take().and_then(|name| refs.get_mut(&name))) {
                (Some(id), Some((_, peeled))) => *peeled = Some(id),
                _ => bad += 1,
            }
            continue;
        }
        match line.split_once_str(" ") {
            Some((id, name)) if is_name(name) => match id_of(id) {
                Some(id) => {
                    refs.insert(name.to_vec(), (id, None));
                    last = Some(name.to_vec());
                }
                None => bad += 1,
            },
            _ => bad += 1,
        }
    }
    (refs, bad)
}

fn shallow(workshop: &Workshop, said: &mut Vec<String>) -> Result<(), Error> {
    let path = workshop.git_dir.join("shallow");
    let text = match bounded::read(&path, bounded::LIST) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => unread::or_damaged(&workshop.git_dir, &path, text)?.unwrap_or_default(),
    };
    let ids = parse_cuts(&text);
    if !text.is_empty() && ids.len() == text.lines().count() {
        return Ok(());
    }
    said.push("shallow was damaged: where history is cut is found out again".into());
    workshop.put_aside(&path, "shallow")?;
    add_cuts(workshop, &ids)
}

/// The lines that can be read: for gix_shallow, one that cannot be is an error, and a file of any size is read.
fn parse_cuts(text: &[u8]) -> Vec<ObjectId> {
    text.lines().filter_map(|line| id_of(line.trim())).collect()
}

pub(super) fn cuts(shallow: &Path) -> Vec<ObjectId> {
    bounded::read(shallow, bounded::LIST).map_or_else(|_| Vec::new(), |text| parse_cuts(&text))
}

/// Let history be cut at `more` commits, too.
pub(super) fn add_cuts(workshop: &Workshop, more: &[ObjectId]) -> Result<(), Error> {
    let path = workshop.git_dir.join("shallow");
    let mut all = cuts(&path);
    let before = all.len();
    all.extend_from_slice(more);
    all.sort();
    all.dedup();
    if all.len() == before {
        return Ok(());
    }
    let text: String = all.iter().map(|id| format!("{id}\n")).collect();
    replace(workshop, &path, text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packed_refs_keep_what_makes_sense() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let table = [
            (
                format!("# pack-refs with: peeled \n{one} refs/heads/a\n{two} refs/tags/b\n^{one}\n"),
                2,
                0,
            ),
            (format!("{one} refs/heads/a\nrubbish\n{two} refs/tags/b\n"), 2, 1),
            (format!("{one} refs/heads/a..b\n^{one}\n"), 0, 2),
            (format!("{one}x refs/heads/a\n\0\0\0\n"), 0, 2),
            (String::new(), 0, 0),
        ];
        for (text, good, bad) in table {
            let found = parse_packed(text.as_bytes());
            assert_eq!((found.0.len(), found.1), (good, bad), "{text}");
        }
    }

    #[test]
    fn what_is_a_ref() {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("x");
        for (text, is) in [
            ("ref: refs/heads/main\n", true),
            ("ref: refs/heads/ma..in\n", false),
            ("ref: \n", false),
            (&"a".repeat(40), true),
            (&"a".repeat(39), false),
            ("\0\0", false),
            ("", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(is_ref(dir.path(), &path).unwrap(), is, "{text:?}");
        }
        assert!(!is_ref(dir.path(), &dir.path().join("none")).unwrap());
    }
}
