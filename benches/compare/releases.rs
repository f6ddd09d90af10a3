//! Releases: one commit after the other is published, each of which changes ten files; by a running daemon, and beside it as
//! git-sync and Deployer do it.
//!
//! git-sync checks the new commit out into a worktree of its own; Deployer's way links the files of the current
//! release, and updates that. Both are done with git's own programs here, up to the moment when the new release is live.
//! What is removed after that is not counted for them, while our time is the whole run, with waiting for the disk.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use super::{git, make_repository, median, say, settle, shown, start, timed};

/// The first rounds are for warming up: until there is a spare tree.
const WARM_UP: usize = 6;

/// Print the table.
pub(super) fn compare(dir: &Path, files: &[usize], rounds: usize) {
    println!(
        "| files | work | gitsocket | git-sync's way | git-sync's ÷ gitsocket | Deployer's way | Deployer's ÷ gitsocket |\n\
         |---|---|---|---|---|---|---|"
    );
    for &files in files {
        let mut stage = Stage::new(&dir.join(files.to_string()), files, 2 * rounds + WARM_UP + 1);
        stage.publish_all(rounds);
        stage.alone("nothing new", rounds, Stage::trigger);
        stage.roll_back(rounds);
    }
}

/// A repository, a daemon with its releases, and those of the others.
struct Stage {
    dir: PathBuf,
    files: usize,
    step: usize,
    daemon: Child,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Stage {
    fn new(dir: &Path, files: usize, steps: usize) -> Self {
        fs::create_dir(dir).unwrap();
        make_repository(&dir.join("repo.git"), files, steps);
        let url = format!("file://{}/repo.git", dir.display());
        for other in ["git-sync", "deployer"] {
            fs::create_dir_all(dir.join(other).join("releases")).unwrap();
            git(
                dir,
                &[
                    "clone",
                    "-q",
                    "--bare",
                    "-b",
                    "main",
                    &url,
                    &format!("{other}/repo.git"),
                ],
            );
        }
        let config = format!(
            "(listen: [Unix(path: \"s\")], triggers: {{\"site\": \
             (repo: {url:?}, branch: \"main\", path: \"site\", releases: ())}})"
        );
        let stage = Self {
            daemon: start(dir, &config),
            dir: dir.into(),
            files,
            step: 0,
        };
        stage.trigger();
        stage.git_sync();
        stage.deployer();
        stage
    }

    /// Let there be a commit that nobody has published.
    fn next(&mut self) {
        self.step += 1;
        let refs = self.dir.join("repo.git/refs/heads");
        fs::copy(refs.join(format!("step-{}", self.step)), refs.join("main")).unwrap();
    }

    fn publish_all(&mut self, rounds: usize) {
        let mut times = [(); 3].map(|()| Vec::new());
        for round in 0..rounds + WARM_UP {
            self.next();
            // In turn, each of them the first sometimes.
            for way in (0..3).map(|n| (n + round) % 3) {
                settle(&self.dir);
                let time = timed(|| match way {
                    0 => self.trigger(),
                    1 => self.git_sync(),
                    _ => self.deployer(),
                });
                if round >= WARM_UP {
                    times[way].push(time);
                }
            }
            self.remove_old("git-sync", 1);
            // As many as gitsocket keeps.
            self.remove_old("deployer", 5);
        }
        let [ours, git_sync, deployer] = times.map(median);
        println!(
            "| {} | ten files published | {} | {} | {:.1} | {} | {:.1} |",
            self.files,
            shown(ours),
            shown(git_sync),
            git_sync / ours,
            shown(deployer),
            deployer / ours,
        );
    }

    /// What the others have no counterpart for.
    fn alone(&self, name: &str, rounds: usize, work: fn(&Self)) {
        let times = (0..rounds).map(|_| {
            settle(&self.dir);
            timed(|| work(self))
        });
        let ours = median(times.collect());
        println!("| {} | {name} | {} | | | | |", self.files, shown(ours));
    }

    fn roll_back(&mut self, rounds: usize) {
        let mut times = Vec::new();
        for _ in 0..rounds {
            self.next();
            self.trigger();
            settle(&self.dir);
            times.push(timed(|| say(&self.dir, "rollback site")));
        }
        let ours = median(times);
        println!(
            "| {} | rollback, verified | {} | | | | |",
            self.files,
            shown(ours)
        );
    }

    fn trigger(&self) {
        say(&self.dir, "site");
    }

    /// A worktree for the new commit.
    fn git_sync(&self) {
        let dir = self.dir.join("git-sync");
        let repo = dir.join("repo.git");
        git(&repo, &["fetch", "-q", "origin", "main"]);
        let release = self.release();
        let tree = format!("../{release}");
        git(
            &repo,
            &[
                "worktree",
                "add",
                "-q",
                "--force",
                "--detach",
                &tree,
                "FETCH_HEAD",
            ],
        );
        go_live(&dir, &release);
    }

    /// Links to all files of the current release, of which those that differ are replaced.
    fn deployer(&self) {
        let dir = self.dir.join("deployer");
        let repo = dir.join("repo.git");
        git(&repo, &["fetch", "-q", "origin", "main"]);
        let release = self.release();
        if dir.join("current").exists() {
            let status = Command::new("cp")
                .args(["-rl", "current/.", &release])
                .current_dir(&dir)
                .status();
            assert!(status.unwrap().success());
        } else {
            fs::create_dir(dir.join(&release)).unwrap()
        }
        // A new link changes the ctime of all files, and git is not to read them for that.
        let tree = format!("--work-tree=../{release}");
        git(
            &repo,
            &[
                "-c",
                "core.bare=false",
                "-c",
                "core.trustctime=false",
                "--git-dir=.",
                &tree,
                "reset",
                "-q",
                "--hard",
                "FETCH_HEAD",
            ],
        );
        go_live(&dir, &release);
    }

    fn release(&self) -> String {
        format!("releases/{}", self.step)
    }

    /// Leave the newest `keep` releases.
    fn remove_old(&self, other: &str, keep: usize) {
        let dir = self.dir.join(other);
        let Some(old) = self.step.checked_sub(keep) else {
            return;
        };
        fs::remove_dir_all(dir.join(format!("releases/{old}"))).ok();
        git(&dir.join("repo.git"), &["worktree", "prune"]);
    }
}

fn go_live(dir: &Path, release: &str) {
    symlink(release, dir.join("current.new")).unwrap();
    fs::rename(dir.join("current.new"), dir.join("current")).unwrap();
}
