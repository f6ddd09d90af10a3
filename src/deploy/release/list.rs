//! The releases of a target, for `status`. The target is not locked for that.

use super::{Trees, retention};
use crate::{
    base::{event::Release, rights::Rights},
    config::Target,
};

/// The live release, and those that can be gone back to, the newest first; none, if they cannot be read.
pub fn list(target: &Target) -> Vec<Release> {
    let site = &target.site;
    let Some(releases) = &site.releases else {
        return Vec::new();
    };
    let Ok(trees) = Trees::recover(site, releases, (Rights::of(0), true)) else {
        return Vec::new();
    };
    let live = trees.live().map(|tree| &tree.id);
    let trees = retention::listed(trees.record(), live, releases.keep.get() as usize);
    let listed = trees.into_iter().map(|tree| Release {
        id: tree.id.to_string(),
        commit: tree.commit.clone(),
        since: tree.live_since,
        live: Some(&tree.id) == live,
        good: tree.is_good,
        bytes: tree.bytes,
    });
    listed.collect()
}
