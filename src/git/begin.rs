//! Tells the caller of fetch and worktree that something is about to be written.

use std::{fmt, io};

/// Called before a run writes for the first time, and any number of times after that.
#[derive(Clone, Copy)]
pub struct Begin<'a>(pub &'a (dyn Fn() -> io::Result<()> + Sync));

impl Begin<'_> {
    /// Say that the run writes from here on.
    pub fn begin(&self) -> io::Result<()> {
        (self.0)()
    }
}

impl fmt::Debug for Begin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begin")
    }
}
