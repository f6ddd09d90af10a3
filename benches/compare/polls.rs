//! What it costs to ask a thousand remotes for news each minute: of a repository by path, and of one over https from a server
//! in this process. All is deployed first; then nothing is new.

use std::{
    collections::BTreeMap,
    fs,
    io::BufReader,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    make_repository,
    over_http::{Asked, request, respond, upload_pack},
    shown, start,
};

/// How often each remote is asked. In time.
const EVERY: Duration = Duration::from_secs(60);

/// What is counted of a server.
#[derive(Default)]
struct Counted {
    connections: usize,
    refs: usize,
    fetches: usize,
}

/// What a process has taken of its machine, and takes.
struct Vitals {
    cpu: f64,
    rss: u64,
    threads: u64,
    fds: usize,
}

/// Poll `triggers` for so many `minutes`, and print a line for each kind of source.
pub(super) fn measure(dir: &Path, triggers: usize, minutes: u64) {
    println!(
        "| source | triggers | polls | CPU each | of a core | resident | threads | descriptors | connections |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for is_https in [false, true] {
        let dir = dir.join(if is_https { "https" } else { "path" });
        fs::create_dir(&dir).unwrap();
        make_repository(&dir.join("repo.git"), 10, 0);
        let counted = Arc::<Mutex<Counted>>::default();
        let (repo, tls) = if is_https {
            (serve(&dir, &counted), "tls: (ca_file: \"ca.pem\"),")
        } else {
            (format!("file://{}/repo.git", dir.display()), "")
        };
        let text: String = (0..triggers)
            .map(|n| {
                format!("\"t{n}\": (repo: {repo:?}, branch: \"main\", path: \"t/{n}\", {tls} poll: \"60s\"),")
            })
            .collect();
        let mut daemon = start(
            &dir,
            &format!("(listen: [Unix(path: \"s\")], triggers: {{{text}}})"),
        );
        while deployed(&dir) < triggers {
            thread::sleep(Duration::from_secs(1));
        }
        // The first round of polls looks up what is deployed.
        thread::sleep(EVERY.mul_f64(1.2));
        let worker = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.id())).unwrap();
        let worker = worker.split_whitespace().next_back().unwrap().to_owned();
        let (before, began) = (Vitals::of(&worker), Instant::now());
        let refs = counted.lock().unwrap().refs;
        thread::sleep(Duration::from_secs(60 * minutes));
        let (after, took) = (Vitals::of(&worker), began.elapsed().as_secs_f64());
        let counted = counted.lock().unwrap();
        let polls = if is_https {
            counted.refs - refs
        } else {
            (triggers as f64 * took / EVERY.as_secs_f64()) as usize
        };
        assert!(counted.fetches <= triggers, "a poll has fetched");
        let cpu = after.cpu - before.cpu;
        println!(
            "| {} | {triggers} | {polls} | {} | {:.2} % | {} → {} KiB | {} → {} | {} → {} | {} |",
            if is_https { "https://" } else { "file://" },
            shown(cpu / polls as f64),
            100.0 * cpu / took,
            before.rss,
            after.rss,
            before.threads,
            after.threads,
            before.fds,
            after.fds,
            counted.connections,
        );
        daemon.kill().ok();
        daemon.wait().ok();
    }
}

/// How many of the triggers are deployed.
fn deployed(dir: &Path) -> usize {
    let runs = fs::read_dir(dir.join("t")).into_iter().flatten().flatten();
    runs.filter(|site| site.path().join(".git/gitsocket/state.json").exists())
        .count()
}

impl Vitals {
    fn of(pid: &str) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            // Linux counts in hundredths of a second for all programs.
            cpu: ticks / 100.0,
            rss: number("VmRSS:"),
            threads: number("Threads:"),
            fds: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }
}

/// Serve `repo.git` in `dir` over https, with a certificate by the authority in `ca.pem`. Gives the URL.
fn serve(dir: &Path, counted: &Arc<Mutex<Counted>>) -> String {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}/repo.git",
        listener.local_addr().unwrap().port()
    );
    let (repo, counted) = (dir.join("repo.git"), counted.clone());
    thread::spawn(move || {
        let known = Arc::<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>::default();
        for socket in listener.incoming().map_while(Result::ok) {
            counted.lock().unwrap().connections += 1;
            let (repo, counted, known) = (repo.clone(), counted.clone(), known.clone());
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            thread::spawn(move || talk(repo, rustls::StreamOwned::new(session, socket), &counted, &known));
        }
    });
    url
}

/// Answer the requests of one connection, until it ends. What is `known`, git is not asked for again.
fn talk(
    repo: PathBuf,
    stream: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    counted: &Mutex<Counted>,
    known: &Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
) -> Option<()> {
    stream.sock.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    while let Some((asked, body)) = request(&mut stream).ok()? {
        match asked {
            Asked::Fetch => counted.lock().unwrap().fetches += 1,
            Asked::Refs => counted.lock().unwrap().refs += 1,
            Asked::Capabilities => {}
        }
        let before = known.lock().unwrap().get(&body).cloned();
        let answer = before.unwrap_or_else(|| upload_pack(&repo, asked, &body, 2));
        if asked != Asked::Fetch {
            known.lock().unwrap().insert(body, answer.clone());
        }
        respond(stream.get_mut(), asked, Some(&answer)).ok()?;
    }
    None
}
