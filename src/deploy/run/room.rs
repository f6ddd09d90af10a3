//! Frees space on a full disk: the spare release is removed, so that at least a rollback can write its files.

use super::{Error, UnderWay};
use crate::{
    base::fault::{Blame as _, Kind},
    deploy::stage::Stage,
};

/// Do `step`; once more, if the disk was full and some space could be freed.
pub(super) fn with_room<'s, T>(
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'s>),
    mut step: impl FnMut(&mut Stage<'s>) -> Result<T, Error>,
) -> Result<T, Error> {
    match step(stage) {
        Err(err) if makes_room((under_way, stage), &err) => step(stage),
        done => done,
    }
}

/// The same, before the releases have been looked at.
pub(super) fn at_first<T>(
    under_way: &UnderWay<'_>,
    mut step: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let err = match step() {
        Err(err) if err.kind() == Kind::Resources && !under_way.context.dry_run => err,
        done => return done,
    };
    let Ok(mut stage) = under_way.stage() else {
        return Err(err);
    };
    if makes_room((under_way, &mut stage), &err) {
        step()
    } else {
        Err(err)
    }
}

fn makes_room((under_way, stage): (&UnderWay<'_>, &mut Stage<'_>), err: &Error) -> bool {
    let is_made = err.kind() == Kind::Resources && !under_way.context.dry_run && stage.give_up_spare();
    if is_made {
        let events = &under_way.context.events;
        events.warn(format!("{err}; the spare release was removed to free space"));
    }
    is_made
}
