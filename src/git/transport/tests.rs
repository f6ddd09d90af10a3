//! Real fetches from git's own servers, where git is there.

mod git_servers;
pub(super) mod refusal;
pub(super) mod server;

use std::{num::NonZeroU32, path::Path, sync::atomic::AtomicBool, time::Duration};

use gix::remote::{Direction, fetch::Shallow};

use self::git_servers::{Origin, daemon, http_backend};
use super::*;
use crate::{
    base::{
        fault::{Blame as _, Failure, Kind},
        report::Reporter,
    },
    git::origin::{Auth, Tls},
};

/// Fetch `main` from `url` into the bare repository at `dir`, which is made if it is not there.
fn fetch(dir: &Path, url: &str, depth: Option<u32>) -> Result<gix::ObjectId, Failure> {
    if !dir.exists() {
        gix::init_bare(dir).unwrap();
    }
    let repo = crate::git::repository::open(dir).unwrap();
    let url = RepoUrl::parse(url, Path::new("/")).unwrap();
    let options = Options {
        deadline: Deadline::new(Duration::from_secs(60)),
        auth: &Auth::None,
        tls: &Tls::default(),
        report: &Reporter::new(|_| {}),
        connections: &Connections::new(Duration::ZERO),
        offers: None,
        scratch: Path::new("/"),
    };
    let transport = connect(&url, &options).map_err(|err| Failure::of(&err))?;
    let remote = repo
        .remote_at(url.without_secrets())
        .unwrap()
        .with_refspecs(["+refs/heads/main:refs/remotes/origin/main"], Direction::Fetch)
        .unwrap();
    let failure =
        |err: gix::Error| Failure::of(cause(&err).unwrap_or_else(|| panic!("not the transport's: {err:?}")));
    let shallow = depth
        .and_then(NonZeroU32::new)
        .map_or(Shallow::NoChange, Shallow::DepthAtRemote);
    remote
        .to_connection_with_transport(transport)
        .with_credentials(|_| Ok(None))
        .prepare_fetch(gix::progress::Discard, Default::default())
        .map_err(failure)?
        .with_shallow(shallow)
        .receive(gix::progress::Discard, &AtomicBool::new(false))
        .map_err(failure)?;
    let id = repo
        .find_reference("refs/remotes/origin/main")
        .unwrap()
        .id()
        .detach();
    Ok(id)
}

/// How many commits are there, from `tip` on.
fn commits(dir: &Path, tip: gix::ObjectId) -> usize {
    let repo = crate::git::repository::open(dir).unwrap();
    repo.rev_walk([tip]).all().unwrap().map(Result::unwrap).count()
}

/// All there is to fetch, in full, then what is new, then the newest commit alone.
fn fetches(origin: &Origin, url: &str) {
    let here = crate::machine::tempdir().unwrap();
    let full = here.path().join("full.git");
    let first = fetch(&full, url, None).unwrap();
    assert_eq!(first.to_string(), origin.tip());
    assert_eq!(commits(&full, first), 3);

    origin.commit("more");
    let second = fetch(&full, url, None).unwrap();
    assert_ne!(first, second);
    assert_eq!(second.to_string(), origin.tip());
    assert_eq!(commits(&full, second), 4);
    assert_eq!(fetch(&full, url, None).unwrap(), second, "nothing new");

    let shallow = here.path().join("shallow.git");
    let only = fetch(&shallow, url, Some(1)).unwrap();
    assert_eq!(only, second);
    assert_eq!(commits(&shallow, only), 1);
}

#[test]
fn from_git_daemon() {
    let Some(origin) = Origin::new() else { return };
    let port = daemon(&origin);
    fetches(&origin, &format!("git://localhost:{port}/x.git"));
}

#[test]
fn from_git_http_backend() {
    let Some(origin) = Origin::new() else { return };
    let server = http_backend(&origin, true);
    fetches(&origin, &server.url("/x.git"));
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("git-protocol") == Some("version=2"))
    );
}

#[test]
fn from_a_server_that_is_too_old_for_version_2() {
    let Some(origin) = Origin::new() else { return };
    fetches(&origin, &http_backend(&origin, false).url("/x.git/"));
}

#[test]
fn repositories_that_are_not_there() {
    let Some(origin) = Origin::new() else { return };
    let here = crate::machine::tempdir().unwrap();
    let server = http_backend(&origin, true);
    let failure = fetch(&here.path().join("x"), &server.url("/y.git"), None).unwrap_err();
    assert_eq!(failure.kind, Kind::Remote);
    assert!(
        failure.message.contains("there is no repository at"),
        "{failure:?}"
    );
}

#[test]
fn a_daemon_that_is_silent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = RepoUrl::parse(&format!("git://127.0.0.1:{port}/x"), Path::new("/")).unwrap();
    let options = Options {
        deadline: Deadline::new(Duration::from_secs(1)),
        auth: &Auth::None,
        tls: &Tls::default(),
        report: &Reporter::new(|_| {}),
        connections: &Connections::new(Duration::ZERO),
        offers: None,
        scratch: Path::new("/"),
    };
    let mut transport = connect(&url, &options).unwrap();
    let err = transport
        .handshake(gix_transport::Service::UploadPack, &[])
        .map(drop)
        .unwrap_err();
    let err = gix::Error::from(err);
    let err = cause(&err).unwrap();
    assert_eq!(err.kind(), Kind::Timeout);
    assert_eq!(
        err.to_string(),
        format!("127.0.0.1:{port} did not deliver git://127.0.0.1:{port}/x within 1s")
    );
}
