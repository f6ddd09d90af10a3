//! Finds what is alive in packs, puts it together, and drops the rest.
//!
//! The order under the lock: reflogs that name what goes are rewritten, the new pack appears, the old ones go, and
//! then cuts of history at commits that are gone. Whatever is done twice does no harm.

use std::path::Path;

use gix::ObjectId;

use super::{
    Error, Outcome, Reason,
    checkpoint::Checkpoint,
    exempt, files, install,
    output::Merged,
    packs::{self, Inventory, Pack},
    reach::{Reach, Worth},
    reflog::{self, Policy},
    repack,
    roots::{self, Roots},
    task::{self, Maintenance},
};
use crate::git::repository::{self, Sharing};

impl Maintenance<'_> {
    /// Put together what is alive in `packs`, and drop the rest.
    pub(super) fn collect(
        &self,
        repo: &gix::Repository,
        inventory: &Inventory,
        packs: &[Pack],
    ) -> Result<Outcome, Error> {
        let db = repo.objects.clone().into_inner();
        let shallow = install::shallow(self.options.git_dir)?;
        let policy = Policy::of(repo, self.now, self.options.depth.is_bounded());
        let others: Vec<Pack> = inventory
            .packs
            .iter()
            .filter(|pack| !packs.contains(pack))
            .cloned()
            .collect();
        let spared = Indices::open(&others, repo.object_hash())?;

        let mut reach = Reach::new(&db, shallow);
        let Some(roots) = self.follow(repo, policy, &mut reach, None)? else {
            return Ok(Outcome::LeftAlone(Reason::Index));
        };
        let loose = self.old_loose(repo, &reach)?;
        // These stay, and so does all they refer to.
        self.follow_loose(repo, &mut reach)?;
        spared.each(|id| reach.follow(id, Worth::Kept))?;
        let wanted = |id: &ObjectId| reach.has(id) && !spared.have(id);
        let merged = repack::repack(
            &db,
            repo.object_hash(),
            packs,
            &loose,
            &wanted,
            false,
            self.temporary,
        )?;

        let _lock = self.lock()?;
        let _mark = self.mark()?;
        if !install::are_there(packs, true)?
            || !install::are_there(&others, false)?
            || exempt::reason(repo, self.now)?.is_some()
            || !self.catch_up(
                repo,
                policy,
                (&roots, &mut reach),
                (packs, &others),
                merged.as_ref(),
            )?
            || !self.expire_reflogs(policy, &reach)?
        {
            return Ok(Outcome::Overtaken);
        }
        self.replace(repo, packs, merged.as_ref(), &reach)?;
        let left = Inventory::read(self.objects)?;
        let checkpoint = Checkpoint {
            alive_bytes: merged.map_or(0, |merged| merged.bytes),
            loose: left.loose,
            cuts: left.cuts,
            depth: task::bound(self.options.depth),
            paused_until: 0,
            ..self.checkpoint.clone()
        };
        checkpoint.write(self.options.git_dir)?;
        self.change(inventory).map(Outcome::Collected)
    }

    /// Let `merged` take the place of `packs`, and drop what else names or repeats objects of these.
    fn replace(
        &self,
        repo: &gix::Repository,
        packs: &[Pack],
        merged: Option<&Merged>,
        reach: &Reach<'_>,
    ) -> Result<(), Error> {
        if let Some(merged) = merged {
            install::install(merged, &self.pack_dir(), Sharing::of(repo))?;
        }
        let going = Indices::open(packs, repo.object_hash())?;
        if going.any(|id| !reach.has(id)) {
            install::remove_commit_graph(self.objects)?;
        }
        let new = merged.map(|merged| merged.name.as_str());
        install::remove_packs(packs, new, &self.pack_dir())?;
        // Opened now: the one that was read from remembers packs that are gone.
        let repo = repository::open(self.options.git_dir)?;
        install::prune_shallow(self.options.git_dir, &|id| repo.has_object(id))?;
        self.prune_loose(&repo)
    }

    /// Follow all that keeps objects alive, as it is now, except what was read `before`. `None`: an index is not
    /// understood.
    fn follow(
        &self,
        repo: &gix::Repository,
        policy: Policy,
        reach: &mut Reach<'_>,
        before: Option<&Roots>,
    ) -> Result<Option<Roots>, Error> {
        let Some(roots) = Roots::read(repo, policy, before)? else {
            return Ok(None);
        };
        roots.follow(reach)?;
        for id in (self.options.pinned)() {
            reach.follow(id, Worth::Kept)?;
        }
        Ok(Some(roots))
    }

    /// Only git writes loose objects here: they stay, whatever they are for, until git prunes them.
    fn follow_loose(&self, repo: &gix::Repository, reach: &mut Reach<'_>) -> Result<(), Error> {
        for (id, _) in install::loose(self.objects, repo.object_hash()) {
            reach.follow(id, Worth::Kept)?;
        }
        Ok(())
    }

    /// Follow what has come meanwhile. Says whether all that needs is in the new pack, or in one that stays.
    fn catch_up(
        &self,
        repo: &gix::Repository,
        policy: Policy,
        (roots, reach): (&Roots, &mut Reach<'_>),
        (packs, others): (&[Pack], &[Pack]),
        merged: Option<&Merged>,
    ) -> Result<bool, Error> {
        if !reach.begin_again(install::shallow(self.options.git_dir)?)
            || self.follow(repo, policy, reach, Some(roots))?.is_none()
        {
            return Ok(false);
        }
        self.follow_loose(repo, reach)?;
        let is_known = |pack: &Pack| packs.iter().chain(others).any(|other| other.path == pack.path);
        let mut come = Inventory::read(self.objects)?.packs;
        come.retain(|pack| !is_known(pack));
        Indices::open(&come, repo.object_hash())?.each(|id| reach.follow(id, Worth::Kept))?;
        let going = Indices::open(packs, repo.object_hash())?;
        let mut new = Vec::new();
        if let Some(merged) = merged {
            new.push(packs::open_index(&merged.index, repo.object_hash())?);
        }
        let new = Indices(new);
        Ok(reach.fresh().iter().all(|id| !going.have(id) || new.have(id)))
    }

    /// Drop the lines of reflogs that refer to what goes. Says whether that could be done.
    pub(super) fn expire_reflogs(&self, policy: Policy, reach: &Reach<'_>) -> Result<bool, Error> {
        for dir in roots::admin_dirs(self.options.git_dir)? {
            for log in reflog::all(&dir)? {
                if !log.expire(policy, self.options.git_dir, &|id| reach.has(id))? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Loose objects that are alive and older than the grace.
    fn old_loose(&self, repo: &gix::Repository, reach: &Reach<'_>) -> Result<Vec<ObjectId>, Error> {
        let mut old = Vec::new();
        for (id, path) in install::loose(self.objects, repo.object_hash()) {
            if reach.has(&id) && self.is_old(&path)? {
                old.push(id);
            }
        }
        Ok(old)
    }

    /// Remove loose objects that are packed as well, as `git prune-packed` does.
    fn prune_loose(&self, repo: &gix::Repository) -> Result<(), Error> {
        let packs = Inventory::read(self.objects)?.packs;
        let packed = Indices::open(&packs, repo.object_hash())?;
        for (id, path) in install::loose(self.objects, repo.object_hash()) {
            if packed.have(&id) && self.is_old(&path)? {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    fn is_old(&self, path: &Path) -> Result<bool, Error> {
        let meta = files::metadata(path)?;
        Ok(meta.is_some_and(|meta| packs::is_older(packs::modified(&meta), self.now, self.options.grace)))
    }
}

/// Which objects are in some packs.
struct Indices(Vec<gix_pack::index::File>);

impl Indices {
    fn open(packs: &[Pack], hash: gix::hash::Kind) -> Result<Self, Error> {
        let open = |pack: &Pack| packs::open_index(&pack.path.with_extension("idx"), hash);
        packs.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    fn have(&self, id: &ObjectId) -> bool {
        self.0.iter().any(|index| index.lookup(id).is_some())
    }

    fn any(&self, mut f: impl FnMut(&ObjectId) -> bool) -> bool {
        self.0
            .iter()
            .any(|index| (0..index.num_objects()).any(|at| f(&index.oid_at_index(at).to_owned())))
    }

    fn each(&self, mut f: impl FnMut(ObjectId) -> Result<(), Error>) -> Result<(), Error> {
        for index in &self.0 {
            for at in 0..index.num_objects() {
                f(index.oid_at_index(at).to_owned())?;
            }
        }
        Ok(())
    }
}
