//! A world whose owner is an ordinary user: root may write everywhere, so that permissions mean nothing to it.

use std::{
    fs,
    os::unix::{fs::lchown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use super::world::{
    Ended, World,
    machine::{STRANGER, find, install},
};

/// The world of an ordinary user: of the one who runs the tests, unless that is root.
pub struct Mortal {
    pub world: World,
    program: PathBuf,
    is_root: bool,
    /// It changes the user faster: for that, the standard library would fork this process, which has much memory.
    setpriv: Option<PathBuf>,
}

impl Mortal {
    /// All that is in `world` by now becomes the user's.
    pub fn new(world: World) -> Self {
        let program = world.path("gitsocket");
        install(env!("CARGO_BIN_EXE_gitsocket").as_ref(), &program);
        let is_root = rustix::process::geteuid().is_root();
        let mortal = Self {
            program,
            is_root,
            setpriv: if is_root { find("setpriv") } else { None },
            world,
        };
        mortal.give(&mortal.world.path("."));
        mortal
    }

    /// Give `path` and all below it to the user, but not the program.
    pub fn give(&self, path: &Path) {
        if !self.is_root || path == self.program {
            return;
        }
        lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
        if fs::symlink_metadata(path).unwrap().is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    /// `program`, run by the user in the directory `dir`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
        let mut command = match &self.setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                let user = [format!("--reuid={STRANGER}"), format!("--regid={STRANGER}")];
                command.args(user).args(["--clear-groups", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        if self.is_root && self.setpriv.is_none() {
            command.uid(STRANGER).gid(STRANGER);
        }
        command.current_dir(dir);
        command
    }

    /// gitsocket, run by the user.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        let mut command = self.command(&self.program, &self.world.path("."));
        command.args(args).env_clear().env("PATH", "");
        Ended::from(command.output().unwrap())
    }

    /// The same, to this exit status.
    #[track_caller]
    pub fn run_to<S: AsRef<std::ffi::OsStr>>(&self, exit: i32, args: impl IntoIterator<Item = S>) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.exit, exit, "{ended:?}");
        ended
    }

    /// `once site`, which has to succeed.
    #[track_caller]
    pub fn deploy(&self) -> Ended {
        self.run_to(0, ["once", "site"])
    }

    /// gitsocket's daemon, run by the user.
    pub fn daemon(&self) -> super::world::Daemon {
        let mut command = self.command(&self.program, &self.world.path("."));
        command.arg("server").env_clear().env("PATH", "");
        super::world::Daemon::start_by(command, self.world.path("s.sock"))
    }
}
