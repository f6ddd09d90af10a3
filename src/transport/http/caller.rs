//! One request at a time: credentials for the right origin, the proxy, the deadline, and what a failure means.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Method, Request, Response, Uri, header},
    unversioned::resolver::ResolvedSocketAddrs,
};

use super::{
    Error, answer,
    auth::Credentials,
    forward::Forward,
    location::{self, Origin},
    proxy::{self, Proxies, Route},
    tls,
};
use crate::{
    fault::one_line,
    name::RepoUrl,
    transport::{
        Deadline, Options,
        tcp::{self, Peer},
    },
};

/// Some servers know a git client by this beginning.
const USER_AGENT: &str = concat!("git/gitsocket-", env!("CARGO_PKG_VERSION"));

/// What all requests of one conversation share.
pub(super) struct Caller {
    agent: Agent,
    deadline: Deadline,
    credentials: Option<Credentials>,
    /// Whether the server asked for credentials that are not sent at once.
    asked: AtomicBool,
    /// Whom the credentials are for.
    origin: Origin,
    proxies: Proxies,
    roots: String,
}

impl Caller {
    /// Read what `options` names: secrets and certificates.
    pub(super) fn new(
        url: &RepoUrl,
        origin: Origin,
        options: &Options<'_>,
        proxies: Proxies,
    ) -> Result<Self, Error> {
        let (tls, roots) = tls::config(options.tls)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .tls_config(tls)
            .user_agent(USER_AGENT)
            // One write then fits into the socket's buffer at once, so that none can outlast the deadline by much.
            .output_buffer_size(16 * 1024)
            .build();
        let resolver = Resolver(options.deadline);
        Ok(Self {
            agent: Agent::with_parts(config, Forward::default(), resolver),
            deadline: options.deadline,
            credentials: Credentials::read(url, options.auth, options.tls)?,
            asked: AtomicBool::new(false),
            origin,
            proxies,
            roots,
        })
    }

    /// Send a request, again with credentials if the server asks for them.
    pub(super) fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Result<Response<Body>, Error> {
        let credentials = self.credentials_for(uri);
        let at_once = credentials.filter(|known| known.at_once || self.asked.load(Ordering::Relaxed));
        let response = self.once(method.clone(), uri, headers, body, at_once)?;
        if response.status() != 401 || at_once.is_some() || credentials.is_none() {
            return Ok(response);
        }
        self.asked.store(true, Ordering::Relaxed);
        self.once(method, uri, headers, body, credentials)
    }

    fn once(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Option<&[u8]>,
        credentials: Option<&Credentials>,
    ) -> Result<Response<Body>, Error> {
        let url = location::shown(uri);
        let origin = Origin::of(uri).ok_or_else(|| Error::Url {
            url,
            reason: "it is neither http:// nor https://".into(),
        })?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        if let Some(credentials) = credentials {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, credentials.header.clone());
        }
        let (tunnel, via) = match self.proxies.route(uri, &origin)? {
            Route::Direct => (None, None),
            Route::Tunnel(proxy) => (Some(proxy.clone()), Some(proxy::name(&proxy))),
            Route::Forward { uri, headers, proxy } => {
                *request.uri_mut() = uri;
                request.headers_mut().extend(headers);
                (None, Some(proxy))
            }
        };
        let left = self
            .deadline
            .left()
            .map_err(|_| tcp::Error::timeout(&peer(uri, via.as_deref()), self.deadline))?;
        let response = match body {
            Some(body) => self.run(request.map(|()| body), left, tunnel),
            None => self.run(request, left, tunnel),
        };
        let response = response.map_err(|err| self.explain(err, uri, via.as_deref()))?;
        match (response.status().as_u16(), via) {
            (407, Some(proxy)) => Err(refused_by(proxy, uri, Some(407), "")),
            _ => Ok(response),
        }
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Request<S>,
        left: std::time::Duration,
        tunnel: Option<ureq::Proxy>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(left))
            .proxy(tunnel)
            .build();
        self.agent.run(request)
    }

    /// The body of `response`, if it is what git asked for.
    pub(super) fn accept(&self, uri: &Uri, response: Response<Body>, kind: &str) -> Result<Body, Error> {
        answer::check(uri, response, kind, |said| self.unauthorized(uri, said))
    }

    fn unauthorized(&self, uri: &Uri, said: Option<String>) -> Error {
        let url = location::shown(uri);
        match (&self.credentials, self.credentials_for(uri)) {
            (_, Some(credentials)) => Error::Refused {
                url,
                from: credentials.from.clone(),
                said,
            },
            (known, None) => Error::Unauthenticated {
                url,
                withheld_for: known.is_some().then(|| self.origin.to_string()),
                said,
            },
        }
    }

    fn credentials_for(&self, uri: &Uri) -> Option<&Credentials> {
        self.credentials
            .as_ref()
            .filter(|_| Origin::of(uri).as_ref() == Some(&self.origin))
    }

    /// What `err` means that ended the reading of an answer from `uri`.
    pub(super) fn explain_read(&self, err: io::Error, uri: &Uri) -> Error {
        self.explain(err.into(), uri, None)
    }

    fn explain(&self, err: ureq::Error, uri: &Uri, via: Option<&str>) -> Error {
        use io::ErrorKind as E;
        let peer = peer(uri, via);
        let protocol = |reason| Error::Protocol {
            url: peer.url.clone(),
            reason,
        };
        match err {
            ureq::Error::Timeout(_) => tcp::Error::timeout(&peer, self.deadline).into(),
            // So ureq calls it when the connection ends within a chunk's head.
            ureq::Error::BodyStalled => {
                tcp::Error::talking(&peer, self.deadline, E::UnexpectedEof.into()).into()
            }
            ureq::Error::Rustls(err) => tls::fault(&err, &peer.host, &self.roots),
            // The reason ends in the status, if there was one.
            ureq::Error::ConnectProxyFailed(reason) => {
                let status = reason.rsplit('/').next().and_then(|status| status.parse().ok());
                refused_by(via.unwrap_or_default().to_owned(), uri, status, &reason)
            }
            // The resolver's own.
            ureq::Error::Other(err) => match err.downcast::<io::Error>() {
                Ok(err) => tcp::Error::resolving(&peer, self.deadline, *err).into(),
                Err(err) => protocol(one_line(&err.to_string())),
            },
            ureq::Error::Decompress(_, err) if matches!(err.kind(), E::InvalidInput | E::InvalidData) => {
                protocol(format!("its gzip data are damaged: {err}"))
            }
            ureq::Error::Io(err) | ureq::Error::Decompress(_, err) => {
                if let Some(err) = err.get_ref().and_then(|err| err.downcast_ref::<rustls::Error>()) {
                    return tls::fault(err, &peer.host, &self.roots);
                }
                match err.kind() {
                    E::ConnectionRefused
                    | E::HostUnreachable
                    | E::NetworkUnreachable
                    | E::NetworkDown
                    | E::AddrNotAvailable => tcp::Error::connecting(&peer, self.deadline, err).into(),
                    _ => tcp::Error::talking(&peer, self.deadline, err).into(),
                }
            }
            err => protocol(one_line(&err.to_string())),
        }
    }
}

fn peer(uri: &Uri, via: Option<&str>) -> Peer {
    let host = Origin::of(uri)
        .map(|origin| origin.to_string())
        .unwrap_or_default();
    Peer {
        host: match via {
            Some(proxy) => format!("{host} (by way of the proxy {proxy})"),
            None => host,
        },
        url: location::shown(uri),
    }
}

fn refused_by(proxy: String, uri: &Uri, status: Option<u16>, reason: &str) -> Error {
    Error::Proxy {
        proxy,
        host: peer(uri, None).host,
        status,
        reason: match status {
            Some(407) => "it asks for a user and password (407)".into(),
            Some(status) => format!("it answered {status}"),
            None => one_line(reason),
        },
    }
}

/// Names are resolved as everywhere else here; that ends at the deadline, too.
#[derive(Debug)]
struct Resolver(Deadline);

impl ureq::unversioned::resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: ureq::unversioned::transport::NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let origin = Origin::of(uri).ok_or(ureq::Error::HostNotFound)?;
        let found = tcp::resolve(&origin.host, origin.port, self.0)
            .map_err(|err| ureq::Error::Other(Box::new(err)))?;
        let mut addresses = self.empty();
        // As many as ureq has room for.
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}
