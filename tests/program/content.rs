//! Content made to fill memory or disk is refused with a clear error or deployed, in less than 300 MB.

use std::{
    fs,
    io::{BufRead as _, Read as _, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use gix::{ObjectId, objs::Kind};

use super::{
    source::{Entry, file},
    world::{Daemon, World, last_line},
};

/// What the daemon may have in memory at any time, in kB (SPEC, "Reading is bounded").
const MOST: u64 = 300_000;

/// The most that a worker of the daemon has had in memory, in kB.
pub fn peak(daemon: &Daemon) -> u64 {
    let of = |pid: &rustix::process::Pid| {
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    daemon.workers().iter().map(of).max().unwrap()
}

/// Let the trigger `site` be run; what the daemon answers, once memory was seen to have held.
fn trigger(daemon: &Daemon, what: &str) -> String {
    trigger_below(daemon, what, MOST)
}

/// As [`trigger`], for contents that are small enough for a test: memory must not grow with them.
fn trigger_below(daemon: &Daemon, what: &str, most: u64) -> String {
    let answer = daemon.say("site\n");
    let peak = peak(daemon);
    eprintln!("{what}: {peak} kB");
    assert!(peak < most, "{what}: {peak} kB, and {answer}");
    last_line(&answer).to_owned()
}

/// A pack that is made by hand.
struct Pack {
    bytes: Vec<u8>,
    count: u32,
}

impl Pack {
    fn new() -> Self {
        Self {
            bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            count: 0,
        }
    }

    /// The header of an entry: its type, and the size of what follows.
    fn entry(&mut self, kind: u8, size: u64) -> usize {
        let at = self.bytes.len();
        self.count += 1;
        let (mut byte, mut rest) = (kind << 4 | (size & 15) as u8, size >> 4);
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            (byte, rest) = ((rest & 0x7f) as u8, rest >> 7);
        }
        self.bytes.push(byte);
        at
    }

    /// A zlib stream of stored blocks: to deflate takes minutes in a debug build.
    fn deflate(&mut self, content: &[u8]) {
        self.bytes.extend_from_slice(&[0x78, 0x01]);
        let mut blocks = content.chunks(0xffff).peekable();
        if blocks.peek().is_none() {
            self.bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        }
        let (mut a, mut b) = (1_u64, 0_u64);
        while let Some(block) = blocks.next() {
            let length = block.len() as u16;
            self.bytes.push(u8::from(blocks.peek().is_none()));
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(&(!length).to_le_bytes());
            self.bytes.extend_from_slice(block);
            for byte in block {
                a += u64::from(*byte);
                b += a;
            }
            (a, b) = (a % 65521, b % 65521);
        }
        self.bytes
            .extend_from_slice(&((b << 16 | a) as u32).to_be_bytes());
    }

    fn object(&mut self, kind: Kind, content: &[u8]) -> (usize, ObjectId) {
        let number = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        let at = self.entry(number, content.len() as u64);
        self.deflate(content);
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, content).unwrap();
        (at, id)
    }

    /// An object of `size` NULs, with one block of fixed codes (RFC 1951): one, and repetitions of 258.
    fn zeros(&mut self, kind: u8, size: u64) {
        self.entry(kind, size);
        self.bytes.extend_from_slice(&[0x78, 0x01]);
        let mut bits = Bits { byte: 0, count: 0 };
        let literal = "00110000";
        let repeat = "1100010100000";
        bits.put("110", &mut self.bytes);
        bits.put(literal, &mut self.bytes);
        let mut repeats = (size - 1) / 258;
        while bits.count != 0 {
            bits.put(repeat, &mut self.bytes);
            repeats -= 1;
        }
        // Eight of them are thirteen bytes.
        let mut eight = Vec::new();
        for _ in 0..8 {
            bits.put(repeat, &mut eight);
        }
        for _ in 0..repeats / 8 {
            self.bytes.extend_from_slice(&eight);
        }
        for _ in 0..repeats % 8 {
            bits.put(repeat, &mut self.bytes);
        }
        for _ in 0..(size - 1) % 258 {
            bits.put(literal, &mut self.bytes);
        }
        bits.put("0000000", &mut self.bytes);
        while bits.count != 0 {
            bits.put("0", &mut self.bytes);
        }
        // Adler-32 of NULs.
        self.bytes
            .extend_from_slice(&((size % 65521) as u32 * 0x10000 + 1).to_be_bytes());
    }

    /// A delta of the entry at `base`.
    fn delta(&mut self, base: usize, delta: &[u8]) -> usize {
        let at = self.bytes.len();
        self.entry(6, delta.len() as u64);
        // See gitformat-pack(5), "offset encoding".
        let mut distance = (at - base) as u64;
        let mut bytes = vec![(distance & 0x7f) as u8];
        while distance > 0x7f {
            distance = (distance >> 7) - 1;
            bytes.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        self.bytes.extend_from_slice(&bytes);
        self.deflate(delta);
        at
    }

    /// A commit of these files; the pack is complete then.
    fn commit(mut self, files: &[(&str, ObjectId)]) -> (ObjectId, Vec<u8>) {
        let mut tree = Vec::new();
        for (name, id) in files {
            tree.extend_from_slice(format!("100644 {name}\0").as_bytes());
            tree.extend_from_slice(id.as_slice());
        }
        let (_, tree) = self.object(Kind::Tree, &tree);
        let who = "Eve <eve@example.com> 1700000000 +0000";
        let text = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nmessage\n");
        let (_, commit) = self.object(Kind::Commit, text.as_bytes());
        (commit, self.end())
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&self.count.to_be_bytes());
        let mut hash = gix::hash::hasher(gix::hash::Kind::Sha1);
        hash.update(&self.bytes);
        let digest = hash.try_finalize().unwrap();
        self.bytes.extend_from_slice(digest.as_slice());
        self.bytes
    }
}

/// Bits from the lowest of a byte to the highest.
struct Bits {
    byte: u8,
    count: u32,
}

impl Bits {
    fn put(&mut self, bits: &str, out: &mut Vec<u8>) {
        for bit in bits.bytes() {
            self.byte |= (bit - b'0') << self.count;
            self.count = (self.count + 1) % 8;
            if self.count == 0 {
                out.push(std::mem::take(&mut self.byte));
            }
        }
    }
}

/// A size in a delta.
fn number(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A delta that copies `pieces` times the first 64 KiB.
fn copies(base: u64, pieces: usize) -> Vec<u8> {
    let mut delta = Vec::new();
    number(base, &mut delta);
    number(pieces as u64 * 0x10000, &mut delta);
    delta.extend(std::iter::repeat_n(0x80, pieces));
    delta
}

fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}

fn line(out: &mut impl Write, text: &[u8]) -> std::io::Result<()> {
    write!(out, "{:04x}", text.len() + 4)?;
    out.write_all(text)
}

/// A server of git:// whose `main` is `tip`, and that sends what `pack` writes. Gives its address.
fn serve(tip: ObjectId, pack: impl Fn(&mut dyn Write) -> std::io::Result<()> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/repo", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            // A client that is refused hangs up.
            let _ = answer(&client.unwrap(), tip, &pack);
        }
    });
    url
}

fn answer(
    client: &TcpStream,
    tip: ObjectId,
    pack: &dyn Fn(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut from = std::io::BufReader::new(client);
    let mut to = std::io::BufWriter::with_capacity(1 << 16, client);
    let packet = |from: &mut std::io::BufReader<&TcpStream>| -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
        let mut text = vec![0; length.saturating_sub(4)];
        from.read_exact(&mut text)?;
        Ok(text)
    };
    packet(&mut from)?;
    for text in [
        "version 2\n",
        "ls-refs\n",
        "fetch=shallow\n",
        "object-format=sha1\n",
    ] {
        line(&mut to, text.as_bytes())?;
    }
    to.write_all(b"0000")?;
    to.flush()?;
    loop {
        if from.fill_buf()?.is_empty() {
            return Ok(());
        }
        let command = packet(&mut from)?;
        // Delimiters and the end are packets without text.
        let mut ends = 0;
        while ends < 2 {
            ends += usize::from(packet(&mut from)?.is_empty());
        }
        if command.starts_with(b"command=ls-refs") {
            line(&mut to, format!("{tip} refs/heads/main\n").as_bytes())?;
        } else {
            line(&mut to, b"packfile\n")?;
            pack(&mut Band(&mut to))?;
        }
        to.write_all(b"0000")?;
        to.flush()?;
    }
}

/// The side band that the pack is in.
struct Band<W>(W);

impl<W: Write> Write for Band<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(65_000)];
        write!(self.0, "{:04x}\x01", bytes.len() + 5)?;
        self.0.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A daemon whose trigger `site` deploys from a server that sends `pack`.
fn daemon_of(world: &World, tip: ObjectId, pack: Vec<u8>, more: &str) -> Daemon {
    let url = serve(tip, move |out| out.write_all(&pack));
    configure(world, &url, more);
    world.daemon()
}

fn configure(world: &World, url: &str, more: &str) {
    world.config_of(&format!(
        "\"site\": (repo: \"{url}\", branch: \"main\", path: \"site\", {more}),"
    ));
}

/// What is left of a pack that was refused.
fn packs(world: &World) -> Vec<String> {
    let Ok(names) = fs::read_dir(world.path("site/.git/objects/pack")) else {
        return Vec::new();
    };
    names
        .map(|name| name.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The next run, with content that means well, succeeds.
fn recovers(world: &World) {
    let mut good = super::source::Source::new(&world.path("good.git"));
    good.commit([("a", file("good"))]);
    configure(world, "good.git", "");
    world.deploy();
    assert_eq!(world.site()["a"], file("good"));
    assert!(!world.site().contains_key("evil"), "{:?}", world.site().keys());
}

#[track_caller]
fn refused(pack: Vec<u8>, tip: ObjectId, more: &str, says: &[&str]) {
    let world = World::new();
    let daemon = daemon_of(&world, tip, pack, more);
    let answer = trigger(&daemon, says[0]);
    assert!(answer.starts_with("error site"), "{answer}");
    for says in says {
        assert!(answer.contains(says), "{says:?} is not in {answer}");
    }
    let left = packs(&world);
    assert!(left.iter().all(|name| !name.starts_with(".tmp")), "{left:?}");
    drop(daemon);
    recovers(&world);
}

/// The blob of 50,000,000 NULs, as `git hash-object` names it.
const ZEROS: &str = "f773deae93a3853305fd93d68fbfaf843282f6df";

#[test]
fn a_blob_of_zeros() {
    let mut pack = Pack::new();
    pack.zeros(3, 50_000_000);
    let id = ObjectId::from_hex(ZEROS.as_bytes()).unwrap();
    let (tip, pack) = pack.commit(&[("evil", id)]);
    refused(
        pack,
        tip,
        "max_blob: \"40MiB\"",
        &["evil", "max_blob", "47.7 MiB", "40.0 MiB"],
    );
}

#[test]
fn a_delta_of_many_copies() {
    let mut pack = Pack::new();
    let (base, id) = pack.object(Kind::Blob, &[7; 0x10000]);
    pack.delta(base, &copies(0x10000, 30_000));
    let (tip, pack) = pack.commit(&[("evil", id)]);
    refused(pack, tip, "", &["delta", "max_blob", "1.8 GiB"]);
}

#[test]
fn a_commit_of_zeros() {
    let mut pack = Pack::new();
    pack.zeros(1, 400_000_000);
    refused(
        pack.end(),
        ObjectId::null(gix::hash::Kind::Sha1),
        "",
        &["commit", "381.5 MiB"],
    );
}

#[test]
fn a_tree_by_a_delta() {
    let mut pack = Pack::new();
    let (base, _) = pack.object(Kind::Tree, &[7; 0x10000]);
    pack.delta(base, &copies(0x10000, 3000));
    let (tip, pack) = pack.commit(&[]);
    refused(pack, tip, "", &["tree", "187.5 MiB"]);
}

#[test]
fn a_number_of_objects_that_nobody_has() {
    let mut pack = Pack::new();
    pack.object(Kind::Blob, b"a");
    pack.count = u32::MAX;
    refused(
        pack.end(),
        ObjectId::null(gix::hash::Kind::Sha1),
        "",
        &["4294967295 objects", "depth"],
    );
}

/// Each object is waited for by one that is a delta of it, and so on: all of them would be in memory at once.
#[test]
fn deltas_that_wait_for_each_other() {
    let mut pack = Pack::new();
    let (mut base, id) = pack.object(Kind::Blob, &noise(0x10000, 1));
    for level in 0..1500_u32 {
        for last in [0, 1] {
            let mut delta = Vec::new();
            number(0x10000, &mut delta);
            number(0x10000, &mut delta);
            // All of it but for the first five bytes.
            delta.push(5);
            delta.extend_from_slice(&level.to_be_bytes());
            delta.push(last);
            delta.extend_from_slice(&[0x80 | 0x01 | 0x30, 5, 0xfb, 0xff]);
            let at = pack.delta(base, &delta);
            if last == 1 {
                base = at;
            }
        }
    }
    let (tip, pack) = pack.commit(&[("fine", id)]);
    let world = World::new();
    let daemon = daemon_of(&world, tip, pack, "");
    let answer = trigger_below(&daemon, "1,500 levels", 80_000);
    assert!(answer.starts_with("ok site"), "{answer}");
}

#[test]
fn a_chain_of_a_hundred_thousand_deltas() {
    let mut pack = Pack::new();
    let (mut base, _) = pack.object(Kind::Blob, b"00000000");
    let mut last = String::new();
    for level in 0..70_000 {
        last = format!("{level:08}");
        base = pack.delta(base, &[&[8, 8, 8], last.as_bytes()].concat());
    }
    let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, last.as_bytes()).unwrap();
    let (tip, pack) = pack.commit(&[("deep", id)]);
    let world = World::new();
    let daemon = daemon_of(&world, tip, pack, "");
    let answer = trigger(&daemon, "70,000 deltas");
    assert!(answer.starts_with("ok site"), "{answer}");
    assert_eq!(world.site()["deep"], Entry::File(last.into_bytes()));
}

/// Within the limits: what does not compress, and a delta of it.
#[test]
fn large_files_are_deployed_in_bounded_memory() {
    const SIZE: usize = 40 << 20;
    let mut pack = Pack::new();
    let first = noise(SIZE, 1);
    let (base, first_id) = pack.object(Kind::Blob, &first);
    let mut delta = Vec::new();
    number(SIZE as u64, &mut delta);
    number(SIZE as u64 + 4, &mut delta);
    delta.extend_from_slice(b"\x04more");
    for at in (0..SIZE as u32).step_by(0x10000) {
        let [a, b, c, d] = at.to_le_bytes();
        delta.extend_from_slice(&[0x8f, a, b, c, d]);
    }
    pack.delta(base, &delta);
    let second = [b"more", first.as_slice()].concat();
    let second_id = gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, &second).unwrap();
    let (tip, pack) = pack.commit(&[("first", first_id), ("second", second_id)]);
    let world = World::new();
    let daemon = daemon_of(&world, tip, pack, "");
    let answer = trigger_below(&daemon, "two files of 40 MiB", 100_000);
    assert!(answer.starts_with("ok site"), "{answer}");
    assert!(fs::read(world.path("site/first")).unwrap() == first);
    assert!(fs::read(world.path("site/second")).unwrap() == second);
    assert!(super::world::git(&world.path("site"), &["status", "--porcelain"]).is_empty());
    drop(daemon);
    // From a local source, which a thread of the daemon serves.
    let from = world.path("site").to_str().unwrap().to_owned();
    world.config_of(&format!(
        "\"site\": (repo: \"{from}\", branch: \"main\", path: \"again\"),"
    ));
    let daemon = world.daemon();
    let answer = trigger_below(&daemon, "the same from a path", 150_000);
    assert!(answer.starts_with("ok site"), "{answer}");
    assert!(fs::read(world.path("again/second")).unwrap() == second);
}

#[test]
fn a_pack_without_end() {
    let world = World::new();
    let chunk = noise(1 << 20, 3);
    let tip = ObjectId::from_hex(&[b'1'; 40]).unwrap();
    let url = serve(tip, move |out| {
        let mut pack = Pack::new();
        pack.entry(3, u64::MAX >> 8);
        pack.bytes[8..12].copy_from_slice(&2_u32.to_be_bytes());
        out.write_all(&pack.bytes)?;
        // A zlib stream of stored blocks.
        out.write_all(&[0x78, 0x01])?;
        loop {
            for block in chunk.chunks(0x8000) {
                let length = block.len() as u16;
                out.write_all(&[0])?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(&(!length).to_le_bytes())?;
                out.write_all(block)?;
            }
        }
    });
    configure(&world, &url, "max_pack: \"40MiB\"");
    let daemon = world.daemon();
    let answer = trigger(&daemon, "a pack without end");
    assert!(answer.starts_with("error site remote"), "{answer}");
    assert!(
        answer.contains("max_pack") && answer.contains("40.0 MiB"),
        "{answer}"
    );
    assert_eq!(packs(&world), Vec::<String>::new());
    drop(daemon);
    recovers(&world);
}

#[test]
fn trees_that_stand_for_more_than_any_disk_holds() {
    let (world, mut source) = World::with_source();
    let blob = source.blob(b"evil");
    let names: Vec<_> = (0..20).map(|n| format!("{n:0>200}")).collect();
    let wide = |source: &super::source::Source, mode: &'static str, id| {
        let entries: Vec<_> = names.iter().map(|name| (mode, name.as_bytes(), id)).collect();
        source.raw_tree(&entries)
    };
    world.config("");
    let daemon = world.daemon();
    // Of files, and of nothing but directories.
    for leaf in [wide(&source, "100644", blob), source.raw_tree(&[])] {
        let mut tree = leaf;
        for _ in 0..6 {
            tree = wide(&source, "40000", tree);
        }
        source.commit_tree("refs/heads/main", None, tree);
        let answer = trigger(&daemon, "20^6 paths");
        assert!(answer.starts_with("error site repository"), "{answer}");
        assert!(
            answer.contains("300000 files") || answer.contains("30000000 bytes"),
            "{answer}"
        );
        assert!(world.site().is_empty());
    }
    source.rewrite([("a", file("good"))]);
    assert!(trigger(&daemon, "good content").starts_with("ok site"));
}

/// Conversions make more of a file than it is.
#[test]
fn converted_files() {
    let (world, mut source) = World::with_source();
    source.commit([
        (
            ".gitattributes",
            file("a* ident\nb* eol=crlf\nc* text=auto eol=crlf\n"),
        ),
        ("a1", Entry::File(b"$Id$".repeat(1 << 20))),
        ("a2", Entry::File(b"$Id$".repeat(1 << 20).split_off(4))),
        ("c", Entry::File([&[0][..], &b"\n".repeat(17 << 20)].concat())),
    ]);
    world.config("");
    let daemon = world.daemon();
    let answer = trigger(&daemon, "files that grow");
    assert!(answer.starts_with("ok site"), "{answer}");
    assert_eq!(fs::metadata(world.path("site/a1")).unwrap().len(), (1 << 20) * 47);
    assert_eq!(fs::metadata(world.path("site/c")).unwrap().len(), 1 + (17 << 20));
    source.commit([
        (".gitattributes", file("b* eol=crlf\n")),
        ("b", Entry::File(b"\n".repeat(17 << 20))),
    ]);
    let answer = trigger(&daemon, "a file that is too large to be converted");
    assert!(answer.starts_with("error site repository"), "{answer}");
    assert!(answer.contains("attributes"), "{answer}");
    source.commit([("b", Entry::File(b"\n".repeat(17 << 20)))]);
    assert!(trigger(&daemon, "without attributes").starts_with("ok site"));
}
