//! A policy as rules of Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::fs::{FileType, fstat};

use super::{Error, policy::Policy};
use crate::deploy::links;

/// The rights that are taken away, except on the paths of a policy. Connections to Unix sockets are not among them: hooks
/// and SSH need the agent's socket, and others.
const HANDLED: ABI = ABI::V5;
/// Signals to processes outside of the sandbox, and their abstract Unix sockets.
const SCOPED: ABI = ABI::V6;
/// Before this version, no file could be renamed into another directory, which deploys do.
const OLDEST: ABI = ABI::V2;

/// Limit this thread to `policy`, as far as the kernel can.
pub(super) fn restrict(policy: &Policy) -> Result<ABI, Error> {
    let base = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(OLDEST))
        .map_err(missing)?
        .set_compatibility(CompatLevel::BestEffort);
    let created = base
        .handle_access(AccessFs::from_all(HANDLED))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(HANDLED)))
        .and_then(|rules| rules.scope(Scope::from_all(SCOPED)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    let beneath = [
        (&policy.read, read()),
        (&policy.execute, read() | AccessFs::Execute),
        (&policy.write, write()),
        (&policy.build, write() | AccessFs::Execute),
        (&policy.devices, device()),
    ];
    let rules = beneath
        .into_iter()
        .flat_map(|(paths, access)| paths.iter().filter_map(move |path| rule(path, access)));
    let closed = created
        .add_rules(rules.map(Ok::<_, RulesetError>))
        .and_then(|rules| {
            let port = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp));
            rules.add_rules(policy.ports.iter().map(port))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed)?;
    match closed.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi),
        status => Err(Error::Missing {
            reason: format!("{status:?}"),
        }),
    }
}

/// Take from this thread the right to write, except below `dirs` and to devices that all may write to.
pub(super) fn restrict_writing(dirs: &[PathBuf]) -> Result<(), RulesetError> {
    let writing = AccessFs::from_write(HANDLED);
    let rules = |paths: &mut dyn Iterator<Item = &Path>, access| {
        let rules = paths.filter_map(|path| rule(path, access)).map(Ok);
        rules.collect::<Vec<Result<_, RulesetError>>>()
    };
    let mut dirs = dirs.iter().map(PathBuf::as_path);
    let beneath = rules(&mut dirs, write() & writing);
    let devices = rules(&mut DEVICES.iter().map(Path::new), device() & writing);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .create()?
        .add_rules(beneath)?
        .add_rules(devices)?
        .restrict_self()
        .map(drop)
}

/// Devices that programs write to, and that store nothing.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];

/// The rule for `path`, a path without links; none if it does not exist.
fn rule(path: &Path, access: BitFlags<AccessFs>) -> Option<PathBeneath<std::os::fd::OwnedFd>> {
    let fd = links::open(path).ok()?;
    let is_dir = FileType::from_raw_mode(fstat(&fd).ok()?.st_mode) == FileType::Directory;
    let access = if is_dir {
        access
    } else {
        access & AccessFs::from_file(HANDLED)
    };
    Some(PathBeneath::new(fd, access))
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// All access to files and directories, except to execute them and to make devices.
fn write() -> BitFlags<AccessFs> {
    AccessFs::from_all(HANDLED)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

fn device() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
}

fn missing(_: RulesetError) -> Error {
    Error::Missing {
        reason: "it has no Landlock, or an old one".into(),
    }
}

fn failed(err: RulesetError) -> Error {
    Error::Failed {
        reason: err.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, io, os::unix::fs::symlink, thread};

    use super::*;
    use crate::machine;

    #[test]
    fn writing_is_limited_to_some_directories() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["releases/new", "releases/old", "repo.git/gitsocket/tmp", "shared"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("releases/old/index.html"), "old").unwrap();
        fs::write(dir.join("repo.git/HEAD"), "ref").unwrap();
        symlink("releases/old", dir.join("current")).unwrap();
        let written = ["releases/new", "shared", "repo.git/gitsocket/tmp"].map(|name| dir.join(name));
        let is_there = thread::spawn(|| restrict(&Policy::default()).map(drop));
        if let Err(err) = is_there.join().unwrap() {
            machine::skipped(&err.to_string());
            return;
        }
        let denied = |done: io::Result<()>| match done {
            Ok(()) => false,
            // What is to be moved or linked from one to another is as on another disk.
            Err(err) => matches!(
                err.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::CrossesDevices
            ),
        };
        let confined = || {
            restrict_writing(&written).unwrap();
            for name in [
                "releases/new/x",
                "shared/x",
                "repo.git/gitsocket/tmp/x",
                "releases/new/y",
            ] {
                fs::write(dir.join(name), "x").unwrap();
            }
            fs::rename(dir.join("releases/new/x"), dir.join("releases/new/z")).unwrap();
            fs::write("/dev/null", "x").unwrap();
            assert_eq!(fs::read_to_string(dir.join("current/index.html")).unwrap(), "old");
            let at = |name: &str| dir.join(name);
            for (what, done) in [
                ("content", fs::write(at("releases/old/index.html"), "x")),
                ("through the link", fs::write(at("current/index.html"), "x")),
                ("a file", fs::write(at("releases/old/x"), "x")),
                ("its removal", fs::remove_file(at("releases/old/index.html"))),
                ("a release's removal", fs::remove_dir_all(at("releases/old"))),
                ("a release", fs::create_dir(at("releases/more"))),
                ("its name", fs::rename(at("releases/new"), at("releases/more"))),
                ("the repository", fs::write(at("repo.git/HEAD"), "x")),
                ("its configuration", fs::write(at("repo.git/config"), "x")),
                ("its hooks", fs::create_dir(at("repo.git/hooks"))),
                ("what is live", fs::remove_file(at("current"))),
                ("a link", symlink("/", at("x"))),
                (
                    "a file from another",
                    fs::rename(at("releases/old/index.html"), at("releases/new/i")),
                ),
                (
                    "a file to another",
                    fs::rename(at("releases/new/z"), at("releases/old/z")),
                ),
                (
                    "a hard link",
                    fs::hard_link(at("releases/old/index.html"), at("releases/new/h")),
                ),
            ] {
                assert!(denied(done), "{what}");
            }
        };
        thread::scope(|scope| scope.spawn(confined).join()).unwrap();
    }
}
