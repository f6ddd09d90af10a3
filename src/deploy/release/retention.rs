//! Which trees stay: the live one, the older ones that are kept for rollbacks, and one spare, of which the next release is made.

use std::cmp::Reverse;

use super::{
    id::Id,
    record::{Record, Tree},
};

/// What happens to each tree that is not live.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Releases to go back to, one for each commit, the one that was live last first. Those that were rolled back come last.
    pub kept: Vec<Id>,
    /// The next release may be made of it.
    pub spare: Option<Id>,
    pub surplus: Vec<Id>,
}

/// Sort the trees of `record`, of which `live` is live, and `keep` older ones are kept.
///
/// Programs may still read the tree that was live until now, and one that an earlier live link leads to: such a tree is neither
/// spare nor surplus. Of the others that are not kept, one that was never live is the first choice for the spare; then the oldest.
pub fn sort(record: &Record, live: Option<&Id>, keep: usize) -> Sorted {
    let others = record.trees.iter().filter(|tree| Some(&tree.id) != live);
    let (mut good, mut rest): (Vec<&Tree>, Vec<&Tree>) = others.partition(|tree| is_good(tree));
    good.sort_by_key(|tree| (tree.is_rejected, Reverse(tree.turn)));
    let mut commits: Vec<&str> = live
        .and_then(|live| record.tree(live))
        .map(|tree| &*tree.commit)
        .into_iter()
        .collect();
    let mut kept: Vec<&Tree> = Vec::new();
    for tree in good {
        if kept.len() < keep && !commits.contains(&&*tree.commit) {
            kept.push(tree)
        } else {
            rest.push(tree)
        }
        commits.push(&tree.commit);
    }
    rest.retain(|tree| !tree.is_linked && (tree.turn == 0 || tree.turn + 1 < record.turn));
    rest.sort_by_key(|tree| (tree.is_stuck, tree.turn != 0, tree.made));
    let at = usize::from(rest.first().is_some_and(|tree| !tree.is_stuck));
    let (spare, surplus) = rest.split_at(at);
    Sorted {
        kept: kept.iter().map(|tree| tree.id.clone()).collect(),
        spare: spare.first().map(|tree| tree.id.clone()),
        surplus: surplus.iter().map(|tree| tree.id.clone()).collect(),
    }
}

/// The releases that a rollback tries, in this order: none that was rolled back itself.
pub fn older<'r>(record: &'r Record, live: Option<&Id>, keep: usize) -> Vec<&'r Tree> {
    let kept = sort(record, live, keep).kept;
    let kept = kept.iter().filter_map(|id| record.tree(id));
    kept.filter(|tree| !tree.is_rejected).collect()
}

/// All releases that are or were live and are neither spare nor surplus, the newest first.
pub fn listed<'r>(record: &'r Record, live: Option<&Id>, keep: usize) -> Vec<&'r Tree> {
    let Sorted { spare, surplus, .. } = sort(record, live, keep);
    let is_left = |id: &Id| Some(id) == spare.as_ref() || surplus.contains(id);
    let mut trees: Vec<&Tree> = record.trees.iter().collect();
    trees.retain(|tree| tree.is_whole && tree.turn > 0 && !is_left(&tree.id));
    trees.sort_by_key(|tree| Reverse(tree.made));
    trees
}

fn is_good(tree: &Tree) -> bool {
    tree.is_whole && tree.is_good && tree.turn > 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `name turn [good|back|whole|half]`, in the order in which they were made; the numbers are seconds of their ids.
    fn record(trees: &[(u64, u64, &str)]) -> Record {
        let mut record = Record::default();
        for (made, turn, how) in trees {
            record.turn = record.turn.max(*turn);
            record.trees.push(Tree {
                turn: *turn,
                made: *made,
                is_whole: !matches!(*how, "half" | "stuck"),
                is_stuck: *how == "stuck",
                is_good: matches!(*how, "good" | "back" | "same" | "linked"),
                is_linked: *how == "linked",
                is_rejected: *how == "back",
                ..Tree::new(id(*made), commit(how, *made), *made)
            });
        }
        record
    }

    /// All that are the `same` are of one.
    fn commit(how: &str, made: u64) -> String {
        match how {
            "same" => "same".into(),
            _ => made.to_string(),
        }
    }

    fn id(n: u64) -> Id {
        Id::try_from(format!("20261125T2015{n:02}Z-5d6e7f8")).unwrap()
    }

    fn numbers(ids: &[Id]) -> Vec<u64> {
        ids.iter()
            .map(|id| id.as_str()[13..15].parse().unwrap())
            .collect()
    }

    #[test]
    fn what_stays_and_what_goes() {
        use std::slice::from_ref;
        for (name, trees, live, keep, kept, spare, surplus) in [
            ("nothing", vec![], None, 3, vec![], None, vec![]),
            (
                "the first",
                vec![(1, 1, "good")],
                Some(1),
                3,
                vec![],
                None,
                vec![],
            ),
            (
                "few",
                vec![(1, 1, "good"), (2, 2, "good")],
                Some(2),
                3,
                vec![1],
                None,
                vec![],
            ),
            (
                "one too many is the spare",
                vec![(1, 1, "good"), (2, 2, "good"), (3, 3, "good")],
                Some(3),
                1,
                vec![2],
                Some(1),
                vec![],
            ),
            (
                "fewer are kept",
                vec![(1, 1, "good"), (2, 2, "good"), (3, 3, "good"), (4, 4, "good")],
                Some(4),
                1,
                vec![3],
                Some(1),
                vec![2],
            ),
            (
                "what was live until now is not touched, good or not",
                vec![(1, 1, "good"), (2, 2, "whole"), (3, 3, "good")],
                Some(3),
                1,
                vec![1],
                None,
                vec![],
            ),
            (
                "a build that failed is the spare",
                vec![(1, 1, "good"), (2, 2, "good"), (3, 3, "good"), (4, 0, "half")],
                Some(3),
                1,
                vec![2],
                Some(4),
                vec![1],
            ),
            (
                "what is stuck only goes",
                vec![(1, 1, "good"), (2, 2, "good"), (3, 0, "stuck")],
                Some(2),
                1,
                vec![1],
                None,
                vec![3],
            ),
            (
                "what was taken back comes last",
                vec![(1, 1, "good"), (2, 2, "good"), (3, 5, "good"), (4, 4, "back")],
                Some(3),
                1,
                vec![2],
                Some(1),
                vec![],
            ),
            (
                "and is kept while there is room",
                vec![(1, 1, "good"), (2, 2, "back"), (3, 3, "back"), (4, 6, "good")],
                Some(4),
                2,
                vec![1, 3],
                Some(2),
                vec![],
            ),
            (
                "one of each commit, the one that was live last",
                vec![(1, 1, "same"), (2, 2, "good"), (3, 3, "same"), (4, 5, "good")],
                Some(4),
                3,
                vec![3, 2],
                Some(1),
                vec![],
            ),
            (
                "none of the live commit",
                vec![(1, 1, "same"), (2, 2, "good"), (3, 3, "same")],
                Some(3),
                3,
                vec![2],
                Some(1),
                vec![],
            ),
            (
                "what a link leads to that was the live one is not touched",
                vec![(1, 1, "linked"), (2, 2, "good"), (3, 3, "good"), (4, 4, "good")],
                Some(4),
                1,
                vec![3],
                Some(2),
                vec![],
            ),
            (
                "as they were live, not as they were made",
                vec![(1, 3, "good"), (2, 2, "good"), (3, 5, "good")],
                Some(3),
                1,
                vec![1],
                Some(2),
                vec![],
            ),
            (
                "a sick one goes in its turn",
                vec![(1, 4, "good"), (2, 3, "whole"), (3, 5, "good")],
                Some(3),
                3,
                vec![1],
                Some(2),
                vec![],
            ),
        ] {
            let record = record(&trees);
            let sorted = sort(&record, live.map(id).as_ref(), keep);
            assert_eq!(numbers(&sorted.kept), kept, "{name}: kept");
            let found = sorted
                .spare
                .as_ref()
                .map_or(vec![], |spare| numbers(from_ref(spare)));
            assert_eq!(found.first().copied(), spare, "{name}: spare");
            assert_eq!(numbers(&sorted.surplus), surplus, "{name}: surplus");
        }
    }

    #[test]
    fn going_back_goes_further_back() {
        let record = record(&[
            (1, 1, "good"),
            (2, 2, "whole"),
            (3, 3, "good"),
            (4, 6, "back"),
            (5, 0, "whole"),
            (6, 7, "good"),
        ]);
        let older = |live: u64| -> Vec<u64> {
            let ids: Vec<Id> = older(&record, Some(&id(live)), 9)
                .into_iter()
                .map(|tree| tree.id.clone())
                .collect();
            numbers(&ids)
        };
        assert_eq!(
            super::older(&record, Some(&id(6)), 1).len(),
            1,
            "only those that are kept"
        );
        assert_eq!(
            listed(&record, Some(&id(6)), 1).len(),
            3,
            "neither spare nor surplus"
        );
        assert_eq!(older(6), [3, 1]);
        assert_eq!(older(3), [6, 1]);
        assert_eq!(older(4), [6, 3, 1]);
    }
}
