//! The last commits that turned out to be good. Each is held by a ref, so that the way back to it stays: whatever was pushed
//! since, and however little history there is.

use gix::{
    ObjectId,
    bstr::ByteSlice as _,
    refs::{
        Target as RefTarget,
        transaction::{Change, PreviousValue, RefEdit, RefLog},
    },
};

use super::{Error, edit, full_name, update};

/// What the refs are below. Their names are numbers, which grow.
const GOOD: &str = "refs/gitsocket/good/";
/// How many there are: what is live, and three to go back to, as many as releases by default. Each costs the disk what it
/// does not share with the others, also where there is to be little history.
const KEPT: usize = 4;

/// The commits that were good, in the order in which they became so.
#[derive(Debug)]
pub struct Good<'r> {
    repo: &'r gix::Repository,
    /// Each with the number that its ref has.
    commits: Vec<(u32, ObjectId)>,
}

impl<'r> Good<'r> {
    /// The good commits that `repo` holds. What cannot be read is none.
    pub fn of(repo: &'r gix::Repository) -> Self {
        let refs = repo.references();
        let found = refs.iter().flat_map(|refs| refs.prefixed(GOOD)).flatten();
        let commits = found.filter_map(Result::ok).filter_map(|reference| {
            let number = reference.name().as_bstr().strip_prefix(GOOD.as_bytes())?;
            let number = number.to_str().ok()?.parse().ok()?;
            Some((number, reference.target().try_id()?.to_owned()))
        });
        let mut commits: Vec<_> = commits.collect();
        commits.sort_unstable();
        Self { repo, commits }
    }

    /// The good commits, the newest first.
    pub fn commits(&self) -> impl Iterator<Item = ObjectId> {
        self.commits.iter().rev().map(|(_, commit)| *commit)
    }

    /// The commits to go back to from `commit`, the newest first: those before it, if it is one of them.
    pub fn before(&self, commit: ObjectId) -> impl Iterator<Item = ObjectId> {
        let mut commits: Vec<_> = self.commits().collect();
        if let Some(at) = commits.iter().position(|good| *good == commit) {
            commits.drain(..=at);
        }
        commits.into_iter()
    }

    /// `commit` is good, and live.
    pub fn push(&mut self, commit: ObjectId, writer: &str) -> Result<(), Error> {
        if self.commits().next() == Some(commit) {
            return Ok(());
        }
        let others = self.commits.iter().filter(|(_, other)| *other != commit);
        let surplus = (others.count() + 1).saturating_sub(KEPT);
        let number = self.commits.last().map_or(0, |(last, _)| last.saturating_add(1));
        let message = format!("{writer}: good");
        // Eight digits, for people: they are sorted as numbers.
        let name = format!("{GOOD}{number:08}");
        update(self.repo, &name, RefTarget::Object(commit), &message, false)?;
        self.commits.push((number, commit));
        let last = self.commits.len() - 1;
        self.drop_where(|at, other| at < surplus || (at < last && other == commit))
    }

    /// `commit` is live again: what was good after it is not to be gone back to.
    pub fn return_to(&mut self, commit: ObjectId, left: ObjectId, writer: &str) -> Result<(), Error> {
        match self.commits.iter().position(|(_, good)| *good == commit) {
            Some(found) => self.drop_where(|at, _| at > found),
            None => {
                self.drop_where(|_, other| other == left)?;
                self.push(commit, writer)
            }
        }
    }

    fn drop_where(&mut self, is_dropped: impl Fn(usize, ObjectId) -> bool) -> Result<(), Error> {
        let mut kept = Vec::new();
        for (at, (number, commit)) in std::mem::take(&mut self.commits).into_iter().enumerate() {
            if !is_dropped(at, commit) {
                kept.push((number, commit));
                continue;
            }
            edit(
                self.repo,
                RefEdit {
                    change: Change::Delete {
                        expected: PreviousValue::Any,
                        log: RefLog::AndReference,
                    },
                    name: full_name(&format!("{GOOD}{number:08}"))?,
                    deref: false,
                },
            )?;
        }
        self.commits = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back() {
        let dir = crate::machine::tempdir().unwrap();
        let repo = crate::git::repository::init(dir.path(), "[core]\n\tbare = true\n").unwrap();
        let commit = |n: u8| ObjectId::from_bytes_or_panic(&[n; 20]);
        let known = |repo: &gix::Repository| -> Vec<u8> {
            Good::of(repo)
                .commits()
                .map(|commit| commit.as_bytes()[0])
                .collect()
        };
        let push = |n| Good::of(&repo).push(commit(n), "test").unwrap();
        for n in 1..=6 {
            push(n);
            push(n);
        }
        assert_eq!(known(&repo), [6, 5, 4, 3]);
        let before = |n| {
            Good::of(&repo)
                .before(commit(n))
                .next()
                .map(|commit| commit.as_bytes()[0])
        };
        assert_eq!(
            [before(6), before(4), before(3), before(9)],
            [Some(5), Some(3), None, Some(6)]
        );
        // One that is good again is the newest.
        push(4);
        assert_eq!(known(&repo), [4, 6, 5, 3]);
        let back = |to, left| {
            Good::of(&repo)
                .return_to(commit(to), commit(left), "test")
                .unwrap()
        };
        back(5, 4);
        assert_eq!(known(&repo), [5, 3]);
        back(7, 5);
        assert_eq!(known(&repo), [7, 3]);
        back(3, 8);
        assert_eq!(known(&repo), [3]);
    }
}
