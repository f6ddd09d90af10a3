//! Which trees stay: the live one, as many older ones as are kept to go back to, and one spare, from which the next release
//! is made.

use super::{
    id::Id,
    record::{Record, Tree},
};

/// What becomes of the trees that there are, once one of them is live.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Older releases to go back to, the newest first.
    pub kept: Vec<Id>,
    /// The next release may be made from it.
    pub spare: Option<Id>,
    /// To be removed.
    pub surplus: Vec<Id>,
}

/// Sort the trees of `record`, of which `live` is live, and `keep` older ones are kept.
///
/// A tree that was live until now may still be read: it is neither spare nor surplus before another deploy. Of the others that
/// are not kept, one that was never live is the best spare: it is closest to what comes next; and then the one that was live
/// last.
pub fn sort(record: &Record, live: &Id, keep: usize) -> Sorted {
    let mut others: Vec<&Tree> = record.trees.iter().filter(|tree| tree.id != *live).collect();
    others.sort_by_key(|tree| std::cmp::Reverse((tree.turn, &tree.id)));
    let (good, rest): (Vec<&Tree>, Vec<&Tree>) = others
        .into_iter()
        .partition(|tree| tree.is_whole && tree.is_good && tree.turn > 0);
    let kept = good.iter().take(keep);
    let mut rest: Vec<&Tree> = rest.into_iter().chain(good.iter().skip(keep).copied()).collect();
    rest.retain(|tree| tree.turn == 0 || tree.turn + 1 < record.turn);
    rest.sort_by_key(|tree| (tree.turn != 0, std::cmp::Reverse((tree.turn, &tree.id))));
    let mut rest = rest.into_iter().map(|tree| tree.id.clone());
    Sorted {
        kept: kept.map(|tree| tree.id.clone()).collect(),
        spare: rest.next(),
        surplus: rest.collect(),
    }
}
