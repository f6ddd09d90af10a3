//! The signal to stop, for all tasks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use event_listener::Event as Bell;

/// Whether the process is to stop. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Shutdown(Arc<(AtomicBool, Bell)>);

impl Shutdown {
    pub(super) fn new() -> Self {
        Self(Arc::new((AtomicBool::new(false), Bell::new())))
    }

    pub(super) fn say(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.notify(usize::MAX);
    }

    pub(super) fn is_said(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    /// Ends once the process is to stop.
    pub(super) async fn said(&self) {
        loop {
            let said = self.0.1.listen();
            if self.is_said() {
                return;
            }
            said.await;
        }
    }
}
