//! The files that a fetch from an origin reads, tried before there is a fetch, and by the same readers.

use std::{
    env, fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{http, ssh};
use crate::{
    base::{
        access,
        fault::{Blame, Failure},
        name::AbsPath,
        secret::Secret,
    },
    git::origin::{Auth, Origin, Ssh},
};

/// A file of which no use can be made: the field that names it, and why.
pub type Unusable = (&'static str, Failure);

/// The files of `origin` that a fetch by this process could not use.
pub fn unusable(origin: &Origin) -> Vec<Unusable> {
    let mut found = Vec::new();
    match &origin.auth {
        Auth::None => {}
        Auth::Basic { password_file, .. } => found.extend(secret("password_file", password_file)),
        Auth::Bearer { token_file } => found.extend(secret("token_file", token_file)),
        Auth::Ssh(ssh) => found.extend(of_ssh(ssh)),
    }
    let tls = &origin.tls;
    if tls.files().all(is_tried) {
        found.extend(failed("tls", http::try_roots(tls)));
        found.extend(failed("tls", http::try_client(tls)));
    }
    found
}

/// The secret that `field` names, if it cannot be used.
pub fn secret(field: &'static str, file: &AbsPath) -> Option<Unusable> {
    if is_tried(file.as_path()) {
        failed(field, Secret::read(file).map(drop))
    } else {
        None
    }
}

fn of_ssh(ssh: &Ssh) -> Vec<Unusable> {
    let around = ssh::Surroundings::from_env();
    let mut found = Vec::new();
    let files = [&ssh.key, &ssh.passphrase_file].into_iter().flatten();
    if files.map(AbsPath::as_path).all(is_tried) {
        found.extend(failed("key", ssh::try_key(ssh)));
    }
    if ssh.known_hosts.iter().map(AbsPath::as_path).all(is_tried) {
        found.extend(failed("known_hosts", ssh::try_known_hosts(ssh, &around)));
    }
    found
}

/// Whether the file at `path` may be read here. Not a pipe: what is in it would be gone. Not by root what belongs to root
/// and a group: it is for a daemon of that group, which may read it, where root itself would have to keep it from others.
/// Nor a credential where they are all hidden: systemd may show them to a unit's main process alone, and not to the check
/// before its reload.
fn is_tried(path: &Path) -> bool {
    let Ok(meta) = fs::metadata(path) else {
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let is_hidden = |dir: PathBuf| path.starts_with(&dir) && access::list(&dir).is_err();
        return !credentials.is_some_and(is_hidden);
    };
    let is_shared = rustix::process::geteuid().is_root() && meta.uid() == 0 && meta.mode() & 0o077 == 0o040;
    !meta.file_type().is_fifo() && !is_shared
}

fn failed<E: Blame>(field: &'static str, tried: Result<(), E>) -> Option<Unusable> {
    Some((field, Failure::of(&tried.err()?)))
}
