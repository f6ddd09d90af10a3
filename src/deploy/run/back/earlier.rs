//! Finds the commit of a clone that an operator names by some digits.

use gix::ObjectId;

use super::{super::Error, Refused, UnderWay, short};
use crate::{
    base::name::Earlier,
    git::{
        fetch::complete,
        refs::{self, Good, Tip},
    },
};

/// The commit of the clone that `to` names.
pub(super) fn named(
    repo: &gix::Repository,
    to: &Earlier,
    (live, good): (Option<ObjectId>, &Good<'_>),
    under_way: &UnderWay<'_>,
) -> Result<ObjectId, Error> {
    let UnderWay { target, context, .. } = *under_way;
    let there = || match good.commits().map(short).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => {
            "no commit is known to be good; name one that was deployed before".to_owned()
        }
        good => format!("those that were good: {good}"),
    };
    let to_ = to.to_string();
    let Some(digits) = to.commit() else {
        let path = target.site.path.to_string();
        return Err(Refused::NoRelease {
            to: to_,
            path,
            there: there(),
        }
        .into());
    };
    let found = match gix::hash::Prefix::from_hex(digits) {
        Ok(prefix) if digits.len() <= repo.object_hash().len_in_hex() => candidates(repo, prefix),
        _ => Vec::new(),
    };
    let commit = match found.as_slice() {
        [] => {
            return Err(Refused::NoCommit {
                to: to_,
                there: there(),
            }
            .into());
        }
        [commit] => *commit,
        several => {
            let which = several.iter().take(SHOWN).map(ToString::to_string);
            let which = which.collect::<Vec<_>>().join(", ");
            return Err(Refused::Ambiguous { to: to_, which }.into());
        }
    };
    let mut known = refs::staying(repo, &Tip::Detached);
    known.extend(live);
    complete::check(repo, &[commit], &known, context.watch.over()).map_err(|missing| Refused::NotWhole {
        to: to_,
        missing: missing.to_string(),
        there: there(),
    })?;
    Ok(commit)
}

/// How many commits are shown that begin with the same digits.
const SHOWN: usize = 10;

/// The commits whose ids begin with `prefix`.
fn candidates(repo: &gix::Repository, prefix: gix::hash::Prefix) -> Vec<ObjectId> {
    let mut found = std::collections::HashSet::default();
    if repo.objects.lookup_prefix(prefix, Some(&mut found)).is_err() {
        return Vec::new();
    }
    let is_commit = |id: &ObjectId| {
        let header = repo.find_header(*id);
        header.is_ok_and(|header| header.kind() == gix::object::Kind::Commit)
    };
    found.into_iter().filter(is_commit).collect()
}
