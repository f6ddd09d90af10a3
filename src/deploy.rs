//! One run of one trigger: its files, its state, its hooks, its sandbox.
//!
//! | module | what it is for |
//! |---|---|
//! | [`links`] | where paths lead; a link that a hook may have made is not followed |
//! | [`target_dirs`] | the directories of all targets, so that none damages another |
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
//! | [`sandbox`] | which files and ports the daemon, and each run, can use |
//! | [`run`] | the pipeline above: one execution of a trigger |
//! | [`poll`] | whether the remote has a newer commit for a run |

pub mod changes;
pub mod existing;
pub mod group;
pub mod health;
pub mod held;
pub mod hook;
pub mod links;
pub mod poll;
pub mod release;
pub mod run;
pub mod sandbox;
pub mod stage;
pub mod state;
pub mod target_dirs;
pub mod trial;
