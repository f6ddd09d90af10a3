//! One request at a time: credentials for the right origin, the proxy, the deadline, and what a failure means.

use std::{
    io,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Method, Request, Response, Uri, header},
    tls::TlsConfig,
};

use super::{
    Error,
    agent::{Agents, Key, Warm},
    answer,
    auth::Credentials,
    certificate::Shown,
    location::{self, Origin},
    proxy::{self, Proxies, Route},
};
use crate::{
    base::{fault::one_line, mutex, name::RepoUrl},
    git::{
        origin::Tls,
        transport::{
            Deadline, Options,
            pool::Loan,
            tcp::{self, Peer},
        },
    },
};

/// What all requests of one conversation share.
pub(super) struct Caller {
    warm: Mutex<Loan<Key, Warm>>,
    /// Whether the connections are those of an earlier fetch, and none has yet proved to be alive.
    doubtful: AtomicBool,
    agents: Agents,
    tls: Tls,
    deadline: Deadline,
    credentials: Option<Credentials>,
    /// Whether the server asked for credentials that are not sent at once.
    asked: AtomicBool,
    /// Whom the credentials are for.
    origin: Origin,
    proxies: Proxies,
}

impl Caller {
    /// Read what `options` names: secrets, and certificates if connections are not left with those.
    pub(super) fn new(
        url: &RepoUrl,
        origin: Origin,
        options: &Options<'_>,
        proxies: Proxies,
    ) -> Result<Self, Error> {
        let agents = options.connections.http.clone();
        let credentials = Credentials::read(url, options.auth, options.tls)?;
        let (warm, doubtful) = match agents.kept(&origin, options.tls) {
            Some(warm) => (warm, true),
            None => (agents.fresh(&origin, options.tls)?, false),
        };
        Ok(Self {
            warm: Mutex::new(warm),
            doubtful: AtomicBool::new(doubtful),
            agents,
            tls: options.tls.clone(),
            deadline: options.deadline,
            credentials,
            asked: AtomicBool::new(false),
            origin,
            proxies,
        })
    }

    /// Whether the server asks for credentials that are not sent at once.
    pub(super) fn asks(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The server asks for credentials, as it did before.
    pub(super) fn expect(&self, asks: bool) {
        self.asked.store(asks, Ordering::Relaxed);
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
        let at_once = credentials.filter(|known| known.at_once || self.asks());
        let response = self.once(method.clone(), uri, headers, body, at_once)?;
        if response.status() != 401 || at_once.is_some() || credentials.is_none() {
            return Ok(response);
        }
        self.expect(true);
        self.once(method, uri, headers, body, credentials)
    }

    /// Send a request, and once more over a new connection if one that was kept has died.
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
        let run = |patience| {
            self.run(&request, body, &origin, tunnel.clone(), patience)
                .map_err(|err| self.explain(err, uri, via.as_deref()))
        };
        let response = if self.doubtful.swap(false, Ordering::Relaxed) {
            match run(Some(self.deadline.patience())) {
                Err(err @ Error::Network(_)) if !self.deadline.passed() => {
                    tracing::debug!("another connection is opened, as the one kept is dead: {err}");
                    *self.warm() = self.agents.fresh(&self.origin, &self.tls)?;
                    run(None)
                }
                other => other,
            }
        } else {
            run(None)
        }?;
        match (response.status().as_u16(), via) {
            (407, Some(proxy)) => Err(refused_by(proxy, uri, Some(407), "")),
            _ => Ok(response),
        }
    }

    /// Send `request`; the head of its answer must come within `patience`, and all of it by the deadline.
    fn run(
        &self,
        request: &Request<()>,
        body: Option<&[u8]>,
        origin: &Origin,
        tunnel: Option<ureq::Proxy>,
        patience: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let left = self
            .deadline
            .left()
            .map_err(|_| ureq::Error::Timeout(ureq::Timeout::Global))?;
        let (agent, tls) = {
            let warm = self.warm();
            let tls = if *origin == self.origin {
                warm.tls.config.clone()
            } else {
                warm.tls.elsewhere.clone()
            };
            (warm.agent.clone(), tls)
        };
        match body {
            Some(body) => send(
                &agent,
                tls,
                request.clone().map(|()| body),
                left,
                tunnel,
                patience,
            ),
            None => send(&agent, tls, request.clone(), left, tunnel, patience),
        }
    }

    fn warm(&self) -> MutexGuard<'_, Loan<Key, Warm>> {
        mutex::lock(&self.warm)
    }

    /// The body of `response`, if it is what git asked for.
    pub(super) fn accept(&self, uri: &Uri, response: Response<Body>, kind: &str) -> Result<Body, Error> {
        let credentials = self.credentials.as_ref();
        answer::check(uri, response, kind, self.shown(uri), credentials, |said| {
            self.unauthorized(uri, said)
        })
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

    /// What the server of `uri` has seen of our certificate.
    fn shown(&self, uri: &Uri) -> Shown<'_> {
        match &self.tls.client {
            None => Shown::None,
            Some(client) if Origin::of(uri).as_ref() == Some(&self.origin) => Shown::Sent(&client.cert_file),
            Some(_) => Shown::Withheld(self.origin.to_string()),
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
        // Nor would the next fetch get anything over it.
        self.warm().spoil();
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
            ureq::Error::Rustls(err) => self.warm().tls.fault(&err, &peer.host, self.shown(uri)),
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
                    return self.warm().tls.fault(err, &peer.host, self.shown(uri));
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

fn send<S: ureq::AsSendBody>(
    agent: &Agent,
    tls: TlsConfig,
    request: Request<S>,
    left: Duration,
    tunnel: Option<ureq::Proxy>,
    patience: Option<Duration>,
) -> Result<Response<Body>, ureq::Error> {
    let request = agent
        .configure_request(request)
        .timeout_global(Some(left))
        .timeout_recv_response(patience)
        .tls_config(tls)
        .proxy(tunnel)
        .build();
    agent.run(request)
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
