//! With Landlock (landlock(7)) and seccomp(2), the front gives up all access that it does not need: it reads the directories of its own
//! files, writes nothing, starts nothing, and connects to the daemon only. An attacker who takes over the process has no more rights. Unix
//! sockets of other processes stay reachable, as far as their permissions allow it.
//!
//! Rules are for directories, since certificates and secrets are replaced while the front runs. What the kernel does not support
//! is left out, and logged.

use std::{
    collections::{BTreeMap, BTreeSet},
    env::consts::ARCH,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
    Scope,
};
use nix::libc;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

use super::config::{Config, Listener};
use crate::base::{address::Address, calls};

/// The rights that are taken away, except on the paths of [`Needs`].
const HANDLED: ABI = ABI::V5;
const SCOPED: ABI = ABI::V6;

#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// Files and directories to read.
    read: BTreeSet<PathBuf>,
    /// Directories of Unix sockets, since these are removed at the end.
    remove: BTreeSet<PathBuf>,
    ports: BTreeSet<u16>,
}

/// Confine this process, which may have no other thread yet. Gives a text for the log.
pub fn enforce(config: &Config) -> String {
    let needs = Needs::of(config);
    let files = match restrict(&needs) {
        Ok((abi, RulesetStatus::NotEnforced)) => format!("no Landlock ({abi:?})"),
        Ok((abi, _)) => format!("Landlock {abi:?}: reads {}, writes nothing", shown(&needs.read)),
        Err(err) => format!("no Landlock: {err}"),
    };
    let calls = match refuse(matches!(config.daemon, Address::Unix(_))) {
        Ok(()) => "executes nothing".to_owned(),
        Err(err) => format!("no seccomp: {err}"),
    };
    format!("{files}; {calls}")
}

fn shown(paths: &BTreeSet<PathBuf>) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

impl Needs {
    fn of(config: &Config) -> Self {
        let mut needs = Self::default();
        let mut files: Vec<&Path> = Vec::new();
        for listener in &config.listen {
            match listener {
                Listener::Http { tls: Some(tls), .. } => {
                    files.extend::<[&Path; 2]>([tls.cert_file.as_ref(), tls.key_file.as_ref()]);
                }
                Listener::Http { .. } => {}
                Listener::Unix { path, .. } => drop(needs.remove.insert(dir(path))),
            }
        }
        files.extend(config.daemon_token_file.iter().map(AsRef::<Path>::as_ref));
        for webhook in config.webhooks.values() {
            files.extend(webhook.from.files().iter().map(AsRef::<Path>::as_ref));
        }
        let passwords = config.page.iter().flat_map(|page| page.users.values());
        files.extend(passwords.map(AsRef::<Path>::as_ref));
        let token = config
            .metrics
            .iter()
            .filter_map(|metrics| metrics.token_file.as_ref());
        files.extend(token.map(AsRef::<Path>::as_ref));
        for file in files {
            needs.read.insert(dir(file));
            // Certificates are often links to files in another directory.
            needs.read.extend(file.canonicalize().ok().map(|file| dir(&file)));
        }
        // For the numbers of its memory and descriptors.
        needs.read.insert("/proc/self".into());
        if let Address::Tcp(tcp) = &config.daemon {
            let (host, port) = tcp.host_and_port();
            needs.ports.insert(port);
            if host.parse::<std::net::IpAddr>().is_err() {
                needs.ports.insert(53);
                needs
                    .read
                    .extend(["/etc/hosts", "/etc/resolv.conf", "/run/systemd/resolve"].map(PathBuf::from));
            }
        }
        needs
    }
}

fn dir(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).into()
}

fn restrict(needs: &Needs) -> Result<(ABI, RulesetStatus), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = |paths: &BTreeSet<PathBuf>, access: BitFlags<AccessFs>| -> Vec<Result<_, RulesetError>> {
        let opened = paths
            .iter()
            .filter_map(|path| Some((path.is_dir(), PathFd::new(path).ok()?)));
        let rule = |(is_dir, fd)| {
            let fits = if is_dir {
                access
            } else {
                access & AccessFs::from_file(HANDLED)
            };
            Ok(PathBeneath::new(fd, fits))
        };
        opened.map(rule).collect()
    };
    let ports = needs
        .ports
        .iter()
        .map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let closed = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(HANDLED))?
        .handle_access(AccessNet::from_all(HANDLED))?
        .scope(Scope::from_all(SCOPED) & Scope::Signal)?
        .create()?
        .add_rules(rules(&needs.read, read))?
        .add_rules(rules(&needs.remove, AccessFs::RemoveFile.into()))?
        .add_rules(ports)?
        .restrict_self()?;
    let abi = match closed.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        _ => ABI::Unsupported,
    };
    Ok((abi, closed.ruleset))
}

/// Let seccomp refuse programs, access to other processes, io_uring, which could do either without a filter, and connections that
/// Landlock does not cover. With `is_local`, no new network socket can be made: the listening ones exist already.
fn refuse(is_local: bool) -> Result<(), String> {
    calls::refuse().map_err(|err| err.to_string())?;
    let mut calls = vec![
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
    ];
    // The x32 ABI of x86-64 has its own system call numbers.
    const X32: i64 = 0x4000_0000;
    if cfg!(target_arch = "x86_64") {
        // A few calls have different numbers there.
        let again: Vec<i64> = calls.iter().map(|call| call | X32).collect();
        calls.extend(again);
        calls.extend([520, 545, 521, 539, 540].map(|call: i64| call | X32));
    }
    let mut rules: BTreeMap<i64, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    if is_local {
        let family = u64::from(libc::AF_UNIX.unsigned_abs());
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family);
        let rule = other.and_then(|other| SeccompRule::new(vec![other]));
        let rule = rule.map_err(|err| err.to_string())?;
        rules.insert(libc::SYS_socket | X32, vec![rule.clone()]);
        rules.insert(libc::SYS_socket, vec![rule]);
    }
    let arch = TargetArch::try_from(ARCH).map_err(|err| err.to_string())?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).map_err(|err| err.to_string())?;
    let program: seccompiler::BpfProgram = filter
        .try_into()
        .map_err(|err: seccompiler::BackendError| err.to_string())?;
    apply_filter(&program).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        fs, io,
        net::{TcpListener, TcpStream},
        process::Command,
        thread,
    };

    use super::*;
    use crate::machine;

    fn is_denied<T>(done: io::Result<T>) -> bool {
        done.is_err_and(|err| err.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn it_reads_its_own_files_and_does_nothing_else() {
        let dir = crate::machine::tempdir().unwrap();
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        for dir in [&own, &other] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("secret"), "s3cret").unwrap();
        }
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [daemon, stranger] = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap());
        let needs = Needs {
            read: [own.clone()].into(),
            remove: [own.clone()].into(),
            ports: [daemon.port()].into(),
        };
        // A thread's sandbox is its own.
        let shut_in = move || {
            let (abi, status) = restrict(&needs).unwrap();
            if status != RulesetStatus::FullyEnforced {
                return machine::skipped(&format!("this kernel has Landlock {abi:?}"));
            }
            refuse(false).unwrap();
            // What is replaced is read, too.
            assert_eq!(fs::read_to_string(own.join("secret")).unwrap(), "s3cret");
            for (what, is_denied) in [
                ("another directory", is_denied(fs::read(other.join("secret")))),
                ("another file", is_denied(fs::read("/etc/passwd"))),
                ("a file", is_denied(fs::write(own.join("new"), ""))),
                ("its own file", is_denied(fs::write(own.join("secret"), ""))),
                ("a name", is_denied(fs::rename(own.join("secret"), own.join("x")))),
                ("a directory", is_denied(fs::create_dir(own.join("d")))),
                ("another port", is_denied(TcpStream::connect(stranger))),
                ("a program", is_denied(Command::new("/bin/true").spawn())),
            ] {
                assert!(is_denied, "{what}");
            }
            TcpStream::connect(daemon).unwrap();
            fs::remove_file(own.join("secret")).unwrap();
            // MPTCP is TCP by another name.
            let other = rustix::net::ipproto::MPTCP;
            let made = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                Some(other),
            );
            assert!(made.is_err());
            // Where the daemon has a Unix socket, no other is needed.
            refuse(true).unwrap();
            assert!(is_denied(TcpStream::connect(daemon)));
            std::os::unix::net::UnixDatagram::unbound().unwrap();
        };
        thread::spawn(shut_in).join().unwrap();
    }
}
