//! A remote that never ends its answer costs a bounded amount of memory and time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use super::{
    figures::Figures,
    world::{World, last_line, machine},
};

const ID: &str = "0123456789012345678901234567890123456789";
/// More memory than that, in MiB, and the remote has had its way. The rest of a debug build takes about 40.
const MAX_MEMORY: usize = 200;

/// What is said without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endless {
    /// Capabilities of protocol v2.
    Capabilities,
    /// Refs of protocol v2.
    Refs,
    /// Refs of older protocols, which come unasked.
    OldRefs,
    /// Boundaries of a shallow clone, where a pack should come.
    Shallow,
}

#[test]
fn no_remote_fills_the_memory_with_lines() {
    let begin = Instant::now();
    let all = [
        Endless::Capabilities,
        Endless::Refs,
        Endless::OldRefs,
        Endless::Shallow,
    ];
    std::thread::scope(|scope| {
        // Of HTTP, by default one kind of a GET and one of a POST.
        let over_http = all.into_iter().filter(|endless| {
            machine::rounds(1) > 1 || matches!(endless, Endless::OldRefs | Endless::Shallow)
        });
        for endless in over_http {
            scope.spawn(move || from("http", endless));
        }
        for endless in all {
            scope.spawn(move || from("git", endless));
        }
    });
    assert!(
        begin.elapsed() < Duration::from_secs(240),
        "it waited for the deadline"
    );
}

/// Deploy from such a server.
fn from(scheme: &'static str, endless: Endless) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            std::thread::spawn(move || match scheme {
                "git" => git(socket, endless),
                _ => http(socket, endless),
            });
        }
    });
    let world = World::new();
    world.config_of(&format!(
        "\"site\": (repo: \"{scheme}://{address}/x\", branch: \"main\", path: \"site\", timeout: \"5m\"),"
    ));
    let daemon = world.daemon();
    let answer = daemon.say("site\n");
    let last = last_line(&answer);
    assert!(
        last.starts_with("error site remote: "),
        "{scheme} {endless:?}: {answer}"
    );
    assert!(
        last.contains("32 MiB") && last.contains("hideRefs"),
        "{scheme} {endless:?}: {last}"
    );
    let peak = Figures::of(daemon.child.id()).peak / 1024;
    eprintln!("{scheme} {endless:?}: at most {peak} MiB");
    assert!(peak < MAX_MEMORY, "{scheme} {endless:?}: {peak} MiB");
}

/// Speak as `git daemon` does, until the other side has gone.
fn git(socket: TcpStream, endless: Endless) {
    let mut from = BufReader::new(socket.try_clone().unwrap());
    packet(&mut from);
    let mut to = socket;
    greet(&mut to, endless)
        .and_then(|()| {
            // ls-refs, and then fetch.
            read_request(&mut from);
            answer(&mut to, endless, true)?;
            read_request(&mut from);
            answer(&mut to, endless, false)
        })
        .ok();
}

/// Speak as git's smart HTTP does, one request a connection.
fn http(socket: TcpStream, endless: Endless) {
    let mut from = BufReader::new(socket.try_clone().unwrap());
    let mut to = socket;
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let lower = line.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        if first.is_empty() {
            first = line;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    let kind = if first.starts_with("GET") {
        "advertisement"
    } else {
        "result"
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nConnection: close\r\n\r\n"
    );
    to.write_all(head.as_bytes()).unwrap();
    let body = String::from_utf8_lossy(&body);
    if first.starts_with("GET") {
        greet(&mut to, endless).ok();
    } else {
        answer(&mut to, endless, body.contains("command=ls-refs")).ok();
    }
}

fn greet(to: &mut impl Write, endless: Endless) -> std::io::Result<()> {
    if endless == Endless::OldRefs {
        write_line(
            to,
            &format!("{ID} HEAD\0side-band-64k ofs-delta shallow agent=x/1\n"),
        )?;
        flood(to, |n| format!("{ID} refs/heads/{n}\n"))?;
    }
    for line in [
        "version 2\n",
        "agent=x/1\n",
        "ls-refs=unborn\n",
        "fetch=shallow\n",
        "object-format=sha1\n",
    ] {
        write_line(to, line)?;
    }
    if endless == Endless::Capabilities {
        flood(to, |n| format!("x{n}\n"))?;
    }
    to.write_all(b"0000")
}

fn answer(to: &mut impl Write, endless: Endless, refs: bool) -> std::io::Result<()> {
    if !refs {
        write_line(to, "shallow-info\n")?;
        return flood(to, |n| format!("shallow {n:040x}\n"));
    }
    if endless == Endless::Refs {
        flood(to, |n| format!("{ID} refs/heads/{n}\n"))?;
    }
    write_line(to, &format!("{ID} refs/heads/main\n"))?;
    to.write_all(b"0000")
}

/// It ends when nobody listens.
fn flood(to: &mut impl Write, line: impl Fn(usize) -> String) -> std::io::Result<()> {
    let mut piece = Vec::new();
    // Made once, or most of the time would go into making it.
    let mut n = 0;
    while piece.len() < 60_000 {
        write_line(&mut piece, &line(n))?;
        n += 1;
    }
    loop {
        to.write_all(&piece)?;
    }
}

fn write_line(to: &mut impl Write, line: &str) -> std::io::Result<()> {
    write!(to, "{:04x}{line}", line.len() + 4)
}

/// Read up to a flush packet.
fn read_request(from: &mut impl std::io::Read) {
    while packet(from) != Some(0) {}
}

/// Read one packet, and give its length field.
fn packet(from: &mut impl std::io::Read) -> Option<usize> {
    let mut length = [0; 4];
    if from.read_exact(&mut length).is_err() {
        // As if it were a flush: nothing else comes.
        return Some(0);
    }
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    let mut content = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut content).ok()?;
    Some(length)
}
