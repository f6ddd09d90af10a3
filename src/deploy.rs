//! One run of one trigger: where its files are, what is remembered of it, its hooks, its sandbox.
//!
//! | room | what it is for |
//! |---|---|
//! | [`links`] | where paths lead; a link that a hook may have put there leads nowhere |
//! | [`neighbours`] | where all targets are, so that none gets in the way of another |
//! | [`state`] | what a git directory records: whether its worktree is ours, its hooks, and the run that is under way |
//! | [`held`] | commits that were rolled back, and are not deployed again by themselves |
//! | [`release`] | the trees of a target that has one for each deployed commit |
//! | [`group`] | the group that new files get |
//! | [`existing`] | what exists at the target's path; a clone is built there, and gets its `HEAD` last |
//! | [`stage`] | where a run makes its tree, and how that becomes live |
//! | [`changes`] | the list of changed files that hooks get |
//! | [`hook`] | the only programs that are started |
//! | [`health`] | the health check of a deployed commit |
//! | [`trial`] | what a run needs of this machine, checked beforehand |
//! | [`sandbox`] | what the daemon, and each of its runs, shuts itself out of |
//! | [`run`] | the pipeline above: one execution of a trigger |
//! | [`poll`] | whether there is something new for a run |

pub mod changes;
pub mod existing;
pub mod group;
pub mod health;
pub mod held;
pub mod hook;
pub mod links;
pub mod neighbours;
pub mod poll;
pub mod release;
pub mod run;
pub mod sandbox;
pub mod stage;
pub mod state;
pub mod trial;
