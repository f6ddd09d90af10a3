//! The failure of triggers whose target is locked by a stuck run.

use crate::{
    base::{
        event::{self, Stuck},
        fault::{Failure, Kind},
        name::TriggerName,
        watch,
    },
    config::Target,
};

/// Why `target` cannot be updated: the run of `holder` is stuck.
pub(super) fn refusal(target: &Target, holder: &TriggerName, stuck: &Stuck) -> Failure {
    let message = format!(
        "{} is held by the run {} of {holder}, which has been stuck since {} in the step {}",
        target.site.path,
        stuck.run,
        event::time(stuck.since),
        stuck.step.as_str()
    );
    Failure::new(
        Kind::Resources,
        message,
        Some(&watch::held_by_the_kernel(target.site.root())),
    )
}
