//! What a fetch from an origin reads and connects to, for a process that limits itself to that.

use std::{env, path::PathBuf};

use crate::{
    base::name::Scheme,
    git::origin::{Auth, Origin, Roots, Ssh, Tls},
};

/// Files, directories and ports. What is not there is named as well.
#[derive(Debug, Default)]
pub struct Needs {
    /// Files that may be replaced at any time: secrets, keys, known hosts, certificates.
    pub files: Vec<PathBuf>,
    /// The system's certificates and known hosts: files and directories.
    pub system: Vec<PathBuf>,
    /// TCP ports to connect to: of the remote, of those it may redirect to, and of proxies.
    pub ports: Vec<u16>,
}

/// Where the system's certificates are, and what links there lead to: as `rustls-native-certs` looks for them.
const CERTIFICATES: [&str; 10] = [
    "/etc/ssl/certs",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib/ssl",
];
/// The keys of hosts that this machine knows, see sshd(8).
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";
/// Variables that name proxies for HTTP.
const PROXIES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

impl Needs {
    pub fn of(origin: &Origin) -> Self {
        let mut needs = Self::default();
        needs.auth(&origin.auth);
        needs.tls(&origin.tls);
        needs.remote(origin);
        needs
    }

    fn auth(&mut self, auth: &Auth) {
        match auth {
            Auth::None => {}
            Auth::Basic { password_file, .. } => self.files.push(password_file.as_path().into()),
            Auth::Bearer { token_file } => self.files.push(token_file.as_path().into()),
            Auth::Ssh(Ssh {
                key,
                passphrase_file,
                known_hosts,
                ..
            }) => {
                let named = [key, passphrase_file, known_hosts].into_iter().flatten();
                self.files.extend(named.map(|path| path.as_path().into()));
                if known_hosts.is_none() {
                    let home = env::var_os("HOME").map(PathBuf::from);
                    self.files.extend(home.map(|home| home.join(".ssh/known_hosts")));
                    self.system.push(KNOWN_HOSTS.into());
                }
            }
        }
    }

    fn tls(&mut self, tls: &Tls) {
        self.files.extend(tls.files().map(Into::into));
        if tls.roots == Roots::System {
            self.system.extend(CERTIFICATES.map(PathBuf::from));
            self.files.extend(env::var_os("SSL_CERT_FILE").map(PathBuf::from));
            let dirs = env::var_os("SSL_CERT_DIR").unwrap_or_default();
            self.system.extend(env::split_paths(&dirs));
        }
    }

    fn remote(&mut self, origin: &Origin) {
        let default: &[u16] = match origin.repo.scheme() {
            Scheme::Local => return,
            Scheme::Git => &[9418],
            Scheme::Ssh => &[22],
            Scheme::Http | Scheme::Https => &[80, 443],
        };
        self.ports.extend(default);
        self.ports.extend(origin.repo.without_secrets().port);
        if matches!(origin.repo.scheme(), Scheme::Http | Scheme::Https) {
            let proxies = PROXIES.into_iter().filter_map(|name| env::var(name).ok());
            self.ports.extend(proxies.filter_map(|url| proxy_port(&url)));
        }
    }
}

/// The port of a proxy as curl takes it: with or without a scheme.
fn proxy_port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next()?;
    let host = authority.rsplit('@').next()?;
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Some(port.unwrap_or(if scheme == "https" { 443 } else { 1080 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies() {
        for (url, port) in [
            ("http://u:p@proxy:3128/", 3128),
            ("proxy:8080", 8080),
            ("https://proxy", 443),
            ("http://proxy", 1080),
        ] {
            assert_eq!(proxy_port(url), Some(port), "{url}");
        }
    }
}
