//! An open connection, seen from its thread.

use russh::client::Handle;

use super::{
    Error,
    end::{self, Ended, ended, lost},
    guard::Guard,
    remote::Remote,
};

/// The connection to a host whose key was verified.
pub(super) struct Link {
    pub(super) handle: Handle<Guard>,
    pub(super) remote: Remote,
    pub(super) end: end::Receiver,
}

impl Link {
    /// How it ended; waits for that.
    pub(super) async fn ended(&mut self) -> Ended {
        ended(&mut self.end).await
    }

    pub(super) fn lost(&self, why: String) -> Error {
        lost(&self.remote, &why)
    }
}
