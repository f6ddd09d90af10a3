//! Directories that are made for a target before anything is known to come into them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::error::Error;

/// The directories that were made, the uppermost first. Dropping it removes those that are empty.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, path: &Path) {
        self.0.push(path.into());
    }

    pub(super) fn make(&mut self, path: &Path) -> Result<(), Error> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Ok(()),
            Ok(_) => return Err(Error::NotADirectory { path: path.into() }),
            Err(_) => {}
        }
        if let Some(parent) = path.parent() {
            self.make(parent)?;
        }
        match fs::create_dir(path) {
            Ok(()) => self.push(path),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                // Another process made it just now; or else it will never be there, however often we try.
                let is_symlink = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
                if is_symlink && !path.exists() {
                    return Err(Error::Dangling { path: path.into() });
                }
            }
            Err(source) => {
                return Err(Error::Create {
                    path: path.into(),
                    source,
                });
            }
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A run that waits for this one sees that its directory is gone, and makes it again.
        for dir in self.0.iter().rev() {
            if fs::remove_dir(dir).is_err() {
                break;
            }
        }
    }
}
