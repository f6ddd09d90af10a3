//! The tracked files that the hooks at Build have changed: `gitsocket/releases/ID.built`. All others are as the tree's index has
//! them.
//!
//! One record for each file, ended by a NUL: six numbers of stat(2) or `-`, the content, the path.

use std::{io, path::Path, str};

use crate::{
    base::{
        bounded,
        durable::{self, Access, Flush, Replace},
        fault::if_there,
    },
    git::worktree::Altered,
};

/// The longest file, in bytes: of 200,000 files that Build has changed.
const MAX_BYTES: u64 = 64 << 20;

/// Write the list to `path`; an empty list removes the file.
pub fn write(path: &Path, altered: &[Altered], fsync: bool) -> io::Result<()> {
    if altered.is_empty() {
        return remove(path);
    }
    let mut text = Vec::new();
    for Altered { path, stat, content } in altered {
        let stat = match stat {
            Some(stat) => stat.map(|number| number.to_string()).join(","),
            None => "-".into(),
        };
        text.extend_from_slice(format!("{stat} {} ", content.replace(' ', ":")).as_bytes());
        text.extend_from_slice(path);
        text.push(0);
    }
    let flush = if fsync { Flush::Content } else { Flush::Nothing };
    Replace::by(&path.with_extension("built.tmp"), Access::Usual, flush).write(path, &text)
}

/// Read the list at `path`; a missing file is an empty list.
pub fn read(path: &Path) -> io::Result<Vec<Altered>> {
    let text = if_there(bounded::read(path, MAX_BYTES))?.unwrap_or_default();
    let lines = text.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
    lines.map(|line| parse(line).ok_or_else(damaged)).collect()
}

fn parse(line: &[u8]) -> Option<Altered> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let mut word = || str::from_utf8(words.next()?).ok();
    let (stat, content) = (word()?, word()?.replace(':', " "));
    let path = words.next()?;
    let stat = match stat {
        "-" => None,
        numbers => {
            let numbers: Result<Vec<u64>, _> = numbers.split(',').map(str::parse).collect();
            Some(numbers.ok()?.try_into().ok()?)
        }
    };
    Some(Altered {
        path: path.into(),
        stat,
        content,
    })
}

/// Remove the list at `path`, if there is one.
pub fn remove(path: &Path) -> io::Result<()> {
    durable::remove(path).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("ID.built");
        let all = vec![
            Altered {
                path: "a b/c\nd".into(),
                stat: Some([1, 2, u64::MAX, 4, 5, 6]),
                content: "file 00ff".into(),
            },
            Altered {
                path: b"\xff".as_slice().into(),
                stat: None,
                content: "nothing".into(),
            },
        ];
        assert_eq!(read(&path).unwrap(), []);
        write(&path, &all, true).unwrap();
        assert_eq!(read(&path).unwrap(), all);
        std::fs::write(&path, "1,2 file x").unwrap();
        assert!(read(&path).is_err());
        write(&path, &[], true).unwrap();
        assert!(!path.exists());
    }
}
