//! Streams of a run's lines are bounded in number and last as long as they are watched.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;

use super::{
    front::{Front, Reply, reply},
    supervisor::wait_until,
    world::World,
};

/// As many as may be watched at once.
const MOST: usize = 200;

struct Stream {
    lines: BufReader<TcpStream>,
}

impl Stream {
    /// A stream of the run `run`; or what is answered instead.
    fn open(front: &Front, run: &str) -> Result<Self, Reply> {
        let mut stream = front.connect();
        let head = format!("GET /triggers/site/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let reply = reply(&mut lines).expect("an answer");
        match reply.status {
            200 => Ok(Self { lines }),
            _ => Err(reply),
        }
    }

    /// Whether a line with `text` comes before the end.
    fn says(&mut self, text: &str) -> bool {
        let mut line = String::new();
        while self.lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains(text) {
                return true;
            }
            line.clear();
        }
        false
    }
}

#[test]
fn streams_have_places_of_their_own() {
    let world = World::sourced();
    world.config(
        "hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"echo started; read line < ../go; echo went on\"])]",
    );
    world.fifo("go");
    world.secret("token", "t0ken-of-the-hook\n");
    let daemon = world.daemon();
    let mut front = Front::start(
        &world,
        "page: (), metrics: true,
         webhooks: {\"/hooks/site\": (trigger: \"site\", from: Bearer(token_file: \"token\"))}",
    );
    let delivery = "POST /hooks/site HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken-of-the-hook\r\n\
                    Content-Length: 0\r\n\r\n";
    let run = front.say(delivery).json("run");
    let connections = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", daemon.workers()[0].as_raw_nonzero())).unwrap();
        fds.count()
    };
    let mut streams = Vec::new();
    let mut watch = || {
        let mut stream = Stream::open(&front, &run).ok().unwrap();
        assert!(stream.says("started"));
        streams.push(stream);
    };
    // Once the hook has started, all that the run itself needs is open.
    watch();
    let before = connections();
    (1..MOST).for_each(|_| watch());
    // However many watch, the daemon has one of them.
    assert!(connections() <= before + 2, "{before}, now {}", connections());
    // One more is told to come back, and deliveries are heard.
    let refused = Stream::open(&front, &run).err().expect("there is no place");
    assert_eq!(
        (refused.status, refused.json("kind").as_str()),
        (503, "busy"),
        "{refused:?}"
    );
    assert!(refused.header("retry-after").is_some());
    assert_eq!(front.say(delivery).status, 202);
    assert_eq!(front.get("/healthz").status, 200);
    // One that goes makes room, though nothing was said since.
    drop(streams.pop());
    wait_until(|| {
        streams.extend(Stream::open(&front, &run));
        streams.len() == MOST
    });
    // All hear what comes.
    let mut go = std::fs::OpenOptions::new()
        .write(true)
        .open(world.path("go"))
        .unwrap();
    go.write_all(b"\n").unwrap();
    for stream in &mut streams {
        assert!(stream.says("went on"));
    }
    // Those of a run that has ended have ended, too; those of one that goes on are no reason to wait at the end.
    drop(streams);
    let run = front.say(delivery).json("run");
    let mut last = Stream::open(&front, &run).ok().unwrap();
    front.signal(Signal::TERM);
    assert_eq!(front.wait().0, Some(0));
    last.says("nothing more");
}

/// What has been said already comes in large pieces: one wake, one frame and one write a line would have all watchers of a
/// run with many lines keep the front from hearing deliveries.
#[test]
fn lines_that_are_there_come_together() {
    const LINES: usize = 500;
    let world = World::sourced();
    let count = format!("n=0; while [ $n -lt {LINES} ]; do n=$((n + 1)); echo $n; done");
    let hook = format!("{count}; echo last; read line < ../go");
    world.config(&format!("hooks: [Exec(run: [\"/bin/sh\", \"-c\", {hook:?}])]"));
    world.fifo("go");
    world.secret("token", "t0ken-of-the-hook\n");
    let _daemon = world.daemon();
    let front = Front::start(
        &world,
        "page: (), webhooks: {\"/hooks/site\": (trigger: \"site\", from: Bearer(token_file: \"token\"))}",
    );
    let run = front
        .say(
            "POST /hooks/site HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken-of-the-hook\r\n\
             Content-Length: 0\r\n\r\n",
        )
        .json("run");
    let mut first = Stream::open(&front, &run).ok().unwrap();
    assert!(first.says("\"text\":\"last\""));
    let mut second = Stream::open(&front, &run).ok().unwrap();
    let (mut frames, mut lines, mut line) = (0, 0, String::new());
    while !line.contains("\"text\":\"last\"") {
        line.clear();
        assert!(second.lines.read_line(&mut line).unwrap() > 0);
        lines += usize::from(line.starts_with("data: "));
        // The length of a frame; lines of events end otherwise.
        frames += usize::from(line.len() > 2 && line.ends_with("\r\n"));
    }
    assert!(lines > LINES && frames < LINES / 50, "{lines} in {frames}");
    std::fs::write(world.path("go"), "\n").unwrap();
}
