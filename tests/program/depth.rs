//! Directories nested without end, hostile indices, fifos and giant files do not stop a run or the daemon.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gitsocket::base::descent::{self, Descent};
use gix::ObjectId;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{
    source::{Source, file},
    world::{Daemon, World, git, last_line, machine, need},
};

/// What the tests give a daemon. It has a few dozen open without any run.
const FEW: &str = "256";

/// So many directories that the kernel takes no path of them, which has 4,096 bytes at most.
const BEYOND_A_PATH: usize = 2_100;

/// How long a daemon may say nothing. Only a failure takes this long, or a machine that does ten things at once.
const SILENCE: Duration = Duration::from_secs(300);

/// A world whose worktree goes when the test ends: other removers cannot do it.
struct Deep {
    world: World,
    source: Source,
    commits: u32,
}

impl Deep {
    /// The daemon's sandbox is `sandbox`: with one, the kernel looks at all directories above for each file.
    fn new(sandbox: &str, more: &str) -> Self {
        let world = World::new();
        let hook = world.script("hook", "echo ran >> ran.log");
        let config = world.config(&format!("hooks: [Exec(run: [{hook:?}])], {more}"));
        let text = fs::read_to_string(&config).unwrap();
        fs::write(config, text.replacen('(', &format!("(sandbox: {sandbox}, "), 1)).unwrap();
        let source = world.source();
        let mut new = Self {
            world,
            source,
            commits: 0,
        };
        new.commit();
        new
    }

    fn commit(&mut self) {
        self.commits += 1;
        let text = self.commits.to_string();
        let rules = (".gitignore", file("*.log\n"));
        self.source.commit([("a", file(&text)), rules]);
    }

    fn site(&self, name: impl AsRef<Path>) -> PathBuf {
        self.world.path("site").join(name)
    }

    fn daemon(&self, descriptors: Option<&str>) -> Daemon {
        let mut command = match descriptors {
            None => self.world.command(["server"]),
            Some(limit) => limited(&self.world, limit, &["server"]),
        };
        command.env("PATH", "");
        Daemon::start_by(command, self.world.path("s.sock"))
    }

    /// A run that has to deploy the newest commit, with its hook.
    fn deploy(&self, daemon: &Daemon) -> String {
        let before = self.hooks();
        let answer = ask(daemon, "trigger site\n");
        assert!(last_line(&answer).starts_with("ok site"), "{answer}");
        assert_eq!(
            fs::read_to_string(self.site("a")).unwrap_or_else(|err| panic!("{err}: {answer}")),
            self.commits.to_string()
        );
        assert_eq!(self.hooks(), before + 1, "the hook did not run: {answer}");
        let head = fs::read_to_string(self.site(".git/refs/heads/main")).unwrap();
        let newest = fs::read_to_string(self.world.path("repo.git/refs/heads/main")).unwrap();
        assert_eq!(head, newest);
        answer
    }

    fn hooks(&self) -> usize {
        fs::read_to_string(self.site("ran.log")).map_or(0, |text| text.lines().count())
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        descent::remove_all(&self.world.path("site")).ok();
    }
}

/// The program with no more than `descriptors` of them.
fn limited(world: &World, descriptors: &str, args: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -n $0 && exec \"$@\"", descriptors])
        .arg(env!("CARGO_BIN_EXE_gitsocket"))
        .args(args)
        .env_clear()
        .env("PATH", "")
        .current_dir(world.path(""));
    command
}

/// What the daemon answers, unless it says nothing for too long.
fn ask(daemon: &Daemon, request: &str) -> String {
    let mut stream = daemon.connect();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Directories `d` in each other, below `dir`. Gives the last.
fn dig(dir: &Path, depth: usize) -> OwnedFd {
    let mut fd = OwnedFd::from(File::open(dir).unwrap());
    for _ in 0..depth {
        rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
        fd = descent::open_dir(fd.as_fd(), b"d").unwrap();
    }
    fd
}

fn touch(dir: &OwnedFd, name: &str) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).unwrap();
}

/// The names in a directory `depth` directories `d` below `dir`.
fn names(dir: &Path, depth: usize) -> Vec<String> {
    let mut way = Descent::new(OwnedFd::from(File::open(dir).unwrap()));
    for _ in 0..depth {
        way.enter(b"d").unwrap();
    }
    let mut names: Vec<_> = rustix::fs::Dir::read_from(way.here())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| name != "." && name != "..")
        .collect();
    names.sort();
    names
}

fn untracked(sandbox: &str, descriptors: Option<&str>, depth: usize) {
    let mut deep = Deep::new(sandbox, "");
    let daemon = deep.daemon(descriptors);
    deep.deploy(&daemon);
    {
        // Nothing but directories, and one file.
        deep.commit();
        touch(&dig(&deep.site(""), depth), "file");
        deep.deploy(&daemon);
        assert!(!deep.site("d").exists());

        // Something that a rule ignores at the bottom, with its rule there, too.
        deep.commit();
        let bottom = dig(&deep.site(""), depth);
        touch(&bottom, "kept.log");
        touch(&bottom, "file");
        touch(&dig(&deep.site("d/d"), 0), "file");
        deep.deploy(&daemon);
        assert_eq!(names(&deep.site(""), depth), ["kept.log"]);
        assert_eq!(names(&deep.site(""), 2), ["d"]);

        // A repository there.
        deep.commit();
        rustix::fs::unlinkat(&bottom, "kept.log", rustix::fs::AtFlags::empty()).unwrap();
        rustix::fs::mkdirat(&bottom, "n", Mode::RWXU).unwrap();
        let nested = descent::open_dir(bottom.as_fd(), b"n").unwrap();
        rustix::fs::mkdirat(&nested, ".git", Mode::RWXU).unwrap();
        let dot_git = descent::open_dir(nested.as_fd(), b".git").unwrap();
        for name in ["objects", "refs"] {
            rustix::fs::mkdirat(&dot_git, name, Mode::RWXU).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let head = rustix::fs::openat(&dot_git, "HEAD", flags, Mode::RUSR).unwrap();
        rustix::io::write(&head, b"ref: refs/heads/main\n").unwrap();
        touch(&nested, "file");
        touch(&bottom, "file");
        deep.deploy(&daemon);
        assert_eq!(names(&deep.site(""), depth), ["n"]);
        descent::remove_all(&deep.site("d")).unwrap();
    }
    assert!(ask(&daemon, "ping\n").contains("pong"));
}

#[test]
fn untracked_directories_of_any_depth_with_few_descriptors() {
    untracked("BestEffort", Some(FEW), BEYOND_A_PATH);
}

#[test]
fn untracked_directories_of_any_depth() {
    untracked("Off", None, 3_000);
}

#[test]
fn thousands_of_untracked_directories() {
    let deep = Deep::new("Off", "");
    deep.world.deploy();
    touch(&dig(&deep.site(""), machine::rounds(8_000)), "file");
    let output = limited(&deep.world, FEW, &["once", "site"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!deep.site("d").exists());
}

#[test]
fn a_dry_run_names_them_and_leaves_them() {
    let deep = Deep::new("Off", "");
    let depth = machine::rounds(5_000);
    deep.world.deploy();
    let bottom = dig(&deep.site(""), depth);
    touch(&bottom, "file");
    let dry = || {
        let output = limited(&deep.world, FEW, &["once", "--dry-run", "site"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let said = dry();
    assert!(said.lines().any(|line| line.ends_with(" d/")), "{said}");
    assert_eq!(names(&deep.site(""), depth), ["file"]);
    // One of the many that would go is named.
    touch(&bottom, "kept.log");
    let said = dry();
    assert!(said.len() < 20_000, "{} bytes", said.len());
    assert!(said.contains("d/d/…"), "{said}");
}

/// The same as git does, where git can: it knows no path of more than 4,095 bytes.
#[test]
fn git_leaves_the_same() {
    if !need("git") {
        return;
    }
    let mut deep = Deep::new("Off", "");
    let daemon = deep.daemon(Some(FEW));
    deep.deploy(&daemon);
    git(deep.world.path("").as_path(), &["clone", "-q", "site", "by-git"]);
    for root in [deep.site(""), deep.world.path("by-git")] {
        for name in ["plain", "ignored", "ruled", "fifo"] {
            fs::create_dir(root.join(name)).unwrap();
            let bottom = dig(&root.join(name), 500);
            touch(&bottom, "file");
            match name {
                "ignored" => touch(&bottom, "x.log"),
                "ruled" => {
                    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                    let rules = rustix::fs::openat(&bottom, ".gitignore", flags, Mode::RUSR).unwrap();
                    rustix::io::write(&rules, b"fi*\n").unwrap();
                }
                "fifo" => rustix::fs::mknodat(&bottom, "pipe", FileType::Fifo, Mode::RUSR, 0).unwrap(),
                _ => {}
            }
        }
    }
    deep.commit();
    deep.deploy(&daemon);
    git(&deep.world.path("by-git"), &["clean", "-dfq"]);
    for name in ["plain", "ignored", "ruled", "fifo"] {
        let (ours, theirs) = (deep.site(name), deep.world.path("by-git").join(name));
        assert_eq!(ours.exists(), theirs.exists(), "{name}");
        if ours.exists() {
            assert_eq!(names(&ours, 500), names(&theirs, 500), "{name}");
        }
    }
    descent::remove_all(&deep.world.path("by-git")).unwrap();
}

#[test]
fn deep_directories_in_the_way_of_a_file() {
    let mut deep = Deep::new("Off", "keep: [\"*.keep\"]");
    let daemon = deep.daemon(Some(FEW));
    deep.deploy(&daemon);
    fs::create_dir(deep.site("x")).unwrap();
    let bottom = dig(&deep.site("x"), 3_000);
    touch(&bottom, "my.keep");
    let files = [
        ("a", file("2")),
        (".gitignore", file("*.log\n")),
        ("x", file("x")),
    ];
    deep.commits = 2;
    deep.source.commit(files);
    let answer = ask(&daemon, "trigger site\n");
    assert!(last_line(&answer).contains("must be kept"), "{answer}");
    assert_eq!(fs::read_to_string(deep.site("a")).unwrap(), "1");
    rustix::fs::unlinkat(&bottom, "my.keep", rustix::fs::AtFlags::empty()).unwrap();
    deep.deploy(&daemon);
    assert_eq!(fs::read_to_string(deep.site("x")).unwrap(), "x");
}

/// As deep as a path can be, with something beside every eighth directory, so that more wait for their turn than there are
/// descriptors.
#[test]
fn a_tree_as_deep_as_a_path_can_be() {
    const DEPTH: usize = 2_000;
    let tree = |source: &Source, text: &str| -> ObjectId {
        let blob = source.blob(text.as_bytes());
        let beside = source.raw_tree(&[("100644", b"f", blob)]);
        let mut tree = source.raw_tree(&[("100644", b"f", blob)]);
        let rules = source.blob(b"*.log\n");
        for depth in (0..DEPTH).rev() {
            let all: [(&str, &[u8], _); 5] = [
                ("100644", b".gitignore", rules),
                ("100644", b"a", blob),
                ("40000", b"c", beside),
                ("40000", b"d", tree),
                ("40000", b"e", beside),
            ];
            tree = match depth {
                0 => source.raw_tree(&all),
                _ if depth % 8 == 0 => source.raw_tree(&all[1..]),
                _ => source.raw_tree(&all[3..4]),
            };
        }
        tree
    };
    let mut deep = Deep::new("Off", "");
    let daemon = deep.daemon(Some(FEW));
    for text in ["1", "2"] {
        let tree = tree(&deep.source, text);
        deep.source.commit_tree("refs/heads/main", None, tree);
        deep.commits = text.parse().unwrap();
        deep.deploy(&daemon);
        assert_eq!(names(&deep.site(""), DEPTH), ["f"]);
        assert_eq!(names(&deep.site(""), DEPTH - 80), ["a", "c", "d", "e"]);
    }
    // Something changed here and there, and untracked, without a new commit.
    let mut way = Descent::new(OwnedFd::from(File::open(deep.site("")).unwrap()));
    for depth in 0..DEPTH {
        way.enter(b"d").unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TRUNC;
        if depth % 100 == 99 {
            for name in ["a", "untracked"] {
                rustix::fs::openat(way.here(), name, flags, Mode::RUSR | Mode::WUSR).unwrap();
            }
        }
    }
    let answer = ask(&daemon, "trigger site\n");
    assert!(last_line(&answer).starts_with("ok site"), "{answer}");
    assert_eq!(names(&deep.site(""), DEPTH - 80), ["a", "c", "d", "e"]);
    deep.commit();
    deep.deploy(&daemon);
    assert!(!deep.site("d").exists() && !deep.site("c").exists());
}

/// The index of such a path can be read again, by git and by the next run, which writes nothing else; of a longer one it could
/// not be.
#[test]
fn the_longest_path() {
    let mut deep = Deep::new("Off", "");
    let daemon = deep.daemon(None);
    let dir = "d".repeat(203);
    let commit = |deep: &mut Deep, length: usize| {
        deep.commits += 1;
        let source = &deep.source;
        let (kept, rules) = (source.blob(b"the same"), source.blob(b"*.log\n"));
        let name = "f".repeat(length - 20 * (dir.len() + 1));
        let mut tree = source.raw_tree(&[("100644", name.as_bytes(), kept)]);
        for _ in 1..20 {
            tree = source.raw_tree(&[("40000", dir.as_bytes(), tree), ("100644", b"z", kept)]);
        }
        let tree = source.raw_tree(&[
            ("100644", b".gitignore", rules),
            ("100644", b"a", source.blob(deep.commits.to_string().as_bytes())),
            ("40000", dir.as_bytes(), tree),
            ("100644", b"z", kept),
        ]);
        deep.source.commit_tree("refs/heads/main", None, tree);
    };
    for written in ["23 written", "1 written"] {
        commit(&mut deep, 4094);
        let answer = deep.deploy(&daemon);
        assert!(answer.contains(written), "{answer}");
    }
    commit(&mut deep, 4095);
    let answer = ask(&daemon, "trigger site\n");
    let last = last_line(&answer);
    assert!(
        last.starts_with("error site repository: ") && last.contains("longer than 4094 bytes"),
        "{answer}"
    );
    commit(&mut deep, 4090);
    deep.deploy(&daemon);
}

/// A hook that failed left it; or it is one of somebody else's.
#[test]
fn what_hooks_leave_in_their_temporary_directory() {
    // Hooks inside have a directory of their own for that.
    let mut deep = Deep::new("BestEffort", "");
    let daemon = deep.daemon(Some(FEW));
    deep.deploy(&daemon);
    deep.commit();
    let scratch = deep.site(".git/gitsocket/tmp");
    fs::create_dir_all(&scratch).unwrap();
    touch(&dig(&scratch, BEYOND_A_PATH), "file");
    deep.deploy(&daemon);
    if scratch.join("d").exists() {
        machine::skipped("this kernel has no sandbox, and so hooks no directory of their own");
        descent::remove_all(&scratch).unwrap();
    }
}

/// An index with `entries` of a real one, then `extensions`, and no checksum.
fn index(entries: &[u8], extensions: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = entries.to_vec();
    for (signature, data) in extensions {
        bytes.extend_from_slice(*signature);
        bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes.extend_from_slice(&[0; 20]);
    bytes
}

#[test]
fn an_index_made_to_hurt() {
    let mut deep = Deep::new("(hooks: Outside)", "");
    let daemon = deep.daemon(None);
    deep.deploy(&daemon);
    let path = deep.site(".git/index");
    let written = fs::read(&path).unwrap();
    let end = written.windows(4).rposition(|four| four == b"TREE").unwrap();
    let entries = &written[..end];
    let tree = b"x\0-1 1\n".repeat(200_000);
    // Its own numbers, times, and one directory in each.
    let mut cache = [vec![0; 1 + 2 * 36 + 4 + 40 + 1], b"\x8b\x9a\x40".to_vec()].concat();
    cache.extend(b"\0\x01x\0".repeat(200_000));
    cache.push(0);
    let table = [[0, 0, 0, 1], [0xff; 4], [0, 0, 0, 1]].concat();
    let mut many = entries.to_vec();
    many[8..12].copy_from_slice(&[0xff; 4]);
    for (what, bytes) in [
        ("deep tree", index(entries, &[(b"TREE", tree)])),
        (
            "many trees",
            index(entries, &[(b"TREE", b"\0-1 4000000000\n".to_vec())]),
        ),
        ("deep cache", index(entries, &[(b"UNTR", cache)])),
        (
            "table",
            index(entries, &[(b"IEOT", table), (b"EOIE", vec![0; 24])]),
        ),
        ("many entries", index(&many, &[])),
        ("unknown", index(entries, &[(b"what", vec![0; 9])])),
        ("cut off", entries[..entries.len() / 2].to_vec()),
        ("nothing", Vec::new()),
    ] {
        deep.commit();
        eprintln!("{what}");
        fs::write(&path, bytes).unwrap();
        deep.deploy(&daemon);
    }
    for what in ["fifo", "zero", "giant", "directory"] {
        deep.commit();
        eprintln!("{what}");
        fs::remove_file(&path).unwrap();
        trap(&path, what);
        match what {
            // It is in the way of the new one.
            "directory" => {
                let answer = ask(&daemon, "trigger site\n");
                assert!(last_line(&answer).starts_with("error site"), "{answer}");
                fs::remove_dir(&path).unwrap();
            }
            _ => drop(deep.deploy(&daemon)),
        }
    }
    assert_peak(&daemon);
}

/// What waits for a writer, is endless, or too large for any memory.
fn trap(path: &Path, what: &str) {
    match what {
        "fifo" => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
        "zero" => symlink("/dev/zero", path).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        _ => File::create(path).unwrap().set_len(3 << 30).unwrap(),
    }
}

/// No process of the daemon ever had more than 300 MB.
fn assert_peak(daemon: &Daemon) {
    for pid in daemon.workers() {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 300_000, "{kib} KiB");
    }
}

#[test]
fn fifos_and_giants_in_untracked_directories() {
    let mut deep = Deep::new("(hooks: Outside)", "");
    let daemon = deep.daemon(None);
    deep.deploy(&daemon);
    deep.commit();
    for what in ["fifo", "zero", "giant", "directory"] {
        for name in [".git", ".git/HEAD", ".git/commondir", ".gitignore"] {
            let dir = deep.site(format!("{what}-{}", name.replace(['/', '.'], "")));
            fs::create_dir_all(dir.join("sub")).unwrap();
            fs::write(dir.join("file"), "1").unwrap();
            if name.starts_with(".git/") {
                for part in ["objects", "refs"] {
                    fs::create_dir_all(dir.join(".git").join(part)).unwrap();
                }
                fs::write(dir.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
                fs::remove_file(dir.join(name)).ok();
            }
            trap(&dir.join(name), what);
        }
    }
    let answer = deep.deploy(&daemon);
    for (name, stays) in [
        // No file and no directory, or as git has it, no file that could be one.
        ("fifo-git", false),
        ("zero-git", false),
        ("giant-git", false),
        ("directory-git", false),
        // What git would wait for, or read the beginning of, may be a HEAD.
        ("fifo-gitHEAD", true),
        ("zero-gitHEAD", false),
        ("giant-gitHEAD", true),
        ("directory-gitHEAD", false),
        // What git would die of may be a repository.
        ("fifo-gitcommondir", true),
        ("zero-gitcommondir", true),
        ("giant-gitcommondir", true),
        ("directory-gitcommondir", true),
        // Nothing is ignored by what is no file, and nobody knows what is by the giant.
        ("fifo-gitignore", false),
        ("zero-gitignore", false),
        ("giant-gitignore", true),
        ("directory-gitignore", false),
    ] {
        assert_eq!(deep.site(name).join("file").exists(), stays, "{name}: {answer}");
        assert_eq!(deep.site(name).join("sub").exists(), stays, "{name}: {answer}");
    }
    assert!(
        answer.contains("giant-gitignore") && answer.contains("a .gitignore cannot be read"),
        "{answer}"
    );
    assert_peak(&daemon);
}

#[test]
fn fifos_and_giants_in_place_of_tracked_files() {
    let mut deep = Deep::new("(hooks: Outside)", "");
    let daemon = deep.daemon(None);
    deep.deploy(&daemon);
    for what in ["fifo", "zero", "giant"] {
        for name in ["a", ".gitignore"] {
            fs::write(deep.site("untracked.log"), "1").unwrap();
            fs::write(deep.site("untracked"), "1").unwrap();
            fs::remove_file(deep.site(name)).unwrap();
            trap(&deep.site(name), what);
            let answer = ask(&daemon, "trigger site\n");
            assert!(
                last_line(&answer).starts_with("ok site"),
                "{what} {name}: {answer}"
            );
            assert_eq!(fs::read_to_string(deep.site("a")).unwrap(), "1");
            assert_eq!(fs::read_to_string(deep.site(".gitignore")).unwrap(), "*.log\n");
            assert!(deep.site("untracked.log").exists() && !deep.site("untracked").exists());
        }
    }
    deep.commit();
    deep.deploy(&daemon);
    assert_peak(&daemon);
}
