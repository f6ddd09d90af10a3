//! What `objects/pack` holds, and what of it is due: pure, except for the listing.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use gix_pack::index;

use super::{Error, checkpoint::Checkpoint, files};

/// The number of packs that are put together: every look-up of an object may have to look into each of them.
pub(super) const MAX_PACKS: usize = 32;
/// A larger pack is left out of putting smaller ones together if it is so many times as large as these, so that
/// each byte is copied a logarithmic number of times (as by `git repack --geometric=2`).
const FACTOR: u64 = 2;
/// Packs may grow to so many times what was alive when they were last looked through: at most half is garbage then.
const GROWTH: u64 = 2;
/// And by so many bytes, which are not worth the trouble.
const SLACK_BYTES: u64 = 1 << 20;
/// As [`GROWTH`] and [`SLACK_BYTES`], for loose objects.
const SLACK_LOOSE: u64 = 2048;

/// As [`GROWTH`] and [`SLACK_BYTES`], for cuts of history: every fetch tells the remote of each.
const SLACK_CUTS: u64 = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pack {
    /// The `.pack`.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// git sets it to now when it finds an object here that it was about to write.
    pub(super) modified: SystemTime,
    /// The pack is to be kept: `.keep`, or a cruft pack (`.mtimes`), which is git's to expire.
    pub(super) held: bool,
}

pub(super) fn open_index(path: &Path, hash: gix::hash::Kind) -> Result<index::File, Error> {
    index::File::at(path, hash).map_err(|err| Error::pack(path, &err))
}

/// All packs, and about how many loose objects and cuts of history (`shallow`) there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) packs: Vec<Pack>,
    pub(super) loose: u64,
    pub(super) cuts: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    Nothing,
    /// Forget cuts of history that nothing leads to.
    Cuts,
    /// Put these together, with all they hold.
    Repack(Vec<Pack>),
    /// Put together what is alive in these, and drop the rest.
    Collect(Vec<Pack>),
}

impl Inventory {
    /// List the packs below `objects`; those without an index do not count.
    pub(super) fn read(objects: &Path) -> Result<Self, Error> {
        let dir = objects.join("pack");
        let mut packs = Vec::new();
        for path in files::list(&dir)? {
            if path.extension().is_none_or(|ext| ext != "pack") || !path.with_extension("idx").exists() {
                continue;
            }
            let Some(meta) = files::metadata(&path)? else {
                continue;
            };
            let held = ["keep", "mtimes"]
                .iter()
                .any(|ext| path.with_extension(ext).exists());
            packs.push(Pack {
                bytes: meta.len(),
                modified: modified(&meta),
                held,
                path,
            });
        }
        // The oldest first: what comes later is a change of what came before.
        packs.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        // As git does it for gc.auto: ids are spread evenly, so one directory of 256 tells.
        let loose = files::list(&objects.join("17"))?.len() as u64 * 256;
        let shallow = files::metadata(&objects.with_file_name("shallow"))?;
        let cuts = shallow.map_or(0, |meta| meta.len() / 41);
        Ok(Self { packs, loose, cuts })
    }

    /// The bytes of those packs that may be replaced.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free().map(|pack| pack.bytes).sum()
    }

    fn free(&self) -> impl Iterator<Item = &Pack> {
        self.packs.iter().filter(|pack| !pack.held)
    }

    /// What is due at `now`. What is younger than `grace` is not looked through: a process may be about to refer to it.
    pub(super) fn work(&self, checkpoint: &Checkpoint, now: SystemTime, grace: Duration) -> Work {
        if self.cuts > checkpoint.cuts * GROWTH + SLACK_CUTS && checkpoint.may_look(now) {
            return Work::Cuts;
        }
        let old: Vec<Pack> = self
            .free()
            .filter(|pack| is_older(pack.modified, now, grace))
            .cloned()
            .collect();
        let old_bytes: u64 = old.iter().map(|pack| pack.bytes).sum();
        if old_bytes > checkpoint.alive_bytes * GROWTH + SLACK_BYTES
            || self.loose > checkpoint.loose * GROWTH + SLACK_LOOSE
        {
            return Work::Collect(old);
        }
        if self.free().count() >= MAX_PACKS {
            return Work::Repack(smallest(self.free().cloned().collect()));
        }
        Work::Nothing
    }
}

/// The packs that are small beside what they would be put beside; at least two.
fn smallest(mut packs: Vec<Pack>) -> Vec<Pack> {
    packs.sort_by_key(|pack| pack.bytes);
    let mut sums = packs.iter().scan(0, |sum, pack| {
        *sum += pack.bytes;
        Some(*sum)
    });
    let mut sums: Vec<u64> = sums.by_ref().collect();
    sums.pop();
    // The last one that is too small beside all that are smaller: it and these go together.
    let split = (1..packs.len())
        .rev()
        .find(|&at| packs[at].bytes < FACTOR * sums[at - 1]);
    packs.truncate(split.map_or(2, |at| at + 1));
    packs.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    packs
}

/// Whether a file modified at `modified` is older than `grace`; one of the future is not.
pub(super) fn is_older(modified: SystemTime, now: SystemTime, grace: Duration) -> bool {
    now.duration_since(modified).is_ok_and(|age| age >= grace)
}

/// When a file was modified. Its nanoseconds count: see [`Pack::modified`].
pub(super) fn modified(meta: &fs::Metadata) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(meta.mtime()).unwrap_or(0));
    let nanos = Duration::from_nanos(u64::try_from(meta.mtime_nsec()).unwrap_or(0));
    SystemTime::UNIX_EPOCH + seconds + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn pack(name: usize, bytes: u64) -> Pack {
        Pack {
            path: format!("pack-{name}.pack").into(),
            bytes,
            modified: at(0),
            held: false,
        }
    }

    fn inventory(sizes: &[u64]) -> Inventory {
        let packs = sizes
            .iter()
            .enumerate()
            .map(|(n, bytes)| pack(n, *bytes))
            .collect();
        Inventory {
            packs,
            ..Inventory::default()
        }
    }

    fn alive(alive_bytes: u64) -> Checkpoint {
        Checkpoint {
            alive_bytes,
            ..Checkpoint::default()
        }
    }

    #[test]
    fn small_packs_go_together_and_large_ones_stay() {
        let table: [(&[u64], usize); 6] = [
            (&[1, 1], 2),
            (&[1, 1, 1, 1, 100], 4),
            (&[10, 10, 10, 50, 200], 4),
            (&[10, 10, 10, 60, 200], 3),
            (&[1, 2, 6, 18, 54], 2),
            (&[1, 2, 6, 18, 30], 5),
        ];
        for (sizes, together) in table {
            let packs = sizes
                .iter()
                .enumerate()
                .map(|(n, bytes)| pack(n, *bytes))
                .collect();
            assert_eq!(smallest(packs).len(), together, "{sizes:?}");
        }
    }

    #[test]
    fn how_much_is_copied_grows_with_the_logarithm() {
        let (mut packs, mut copied, mut most) = (vec![pack(0, 60_000)], 0, 0);
        for n in 1..=5000 {
            packs.push(pack(n, 10));
            if packs.len() >= MAX_PACKS {
                let chosen = smallest(packs.clone());
                packs.retain(|pack| !chosen.contains(pack));
                let bytes = chosen.iter().map(|pack| pack.bytes).sum();
                copied += bytes;
                packs.push(pack(n + 10_000, bytes));
            }
            most = most.max(packs.len());
        }
        assert!(most <= MAX_PACKS, "{most}");
        assert!(copied < 5000 * 10 * 8, "{copied}");
    }

    #[test]
    fn when_what_is_due() {
        let now = at(10_000);
        let work = |inventory: &Inventory, checkpoint: &Checkpoint| inventory.work(checkpoint, now, GRACE);
        assert_eq!(work(&inventory(&[5; 31]), &alive(155)), Work::Nothing);
        assert!(matches!(work(&inventory(&[5; 32]), &alive(155)), Work::Repack(packs) if packs.len() == 32));
        let mut held = inventory(&[5; 40]);
        held.packs.iter_mut().take(9).for_each(|pack| pack.held = true);
        assert_eq!(work(&held, &alive(155)), Work::Nothing);

        let grown = inventory(&[100 << 20, 102 << 20]);
        assert!(matches!(work(&grown, &alive(100 << 20)), Work::Collect(packs) if packs.len() == 2));
        assert_eq!(work(&grown, &alive(101 << 20)), Work::Nothing);
        let mut young = grown;
        young.packs[1].modified = at(9_000);
        assert_eq!(
            work(&young, &alive(100 << 20)),
            Work::Nothing,
            "what is young is spared"
        );
        young.packs[1].modified = at(20_000);
        assert_eq!(
            work(&young, &alive(100 << 20)),
            Work::Nothing,
            "so is what is from the future"
        );

        let loose = Inventory {
            loose: 2304,
            ..inventory(&[1])
        };
        assert!(matches!(work(&loose, &alive(1)), Work::Collect(_)));
        let cut = Inventory {
            cuts: 200,
            ..inventory(&[1])
        };
        assert_eq!(work(&cut, &alive(1)), Work::Cuts);
        let known = Checkpoint {
            cuts: 100,
            ..alive(1)
        };
        assert_eq!(
            work(&cut, &known),
            Work::Nothing,
            "they could not go the last time"
        );
        for (looked, due) in [(9_990, true), (9_998, false), (20_000, true)] {
            let known = Checkpoint { looked, ..alive(1) };
            assert_eq!(work(&cut, &known) == Work::Cuts, due, "{looked}");
        }
        let known = Checkpoint {
            loose: 2304,
            ..alive(1)
        };
        assert_eq!(
            work(&loose, &known),
            Work::Nothing,
            "they were there after the last time"
        );
    }
}
