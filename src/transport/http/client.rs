//! The requests: credentials for the right origin, redirects, proxies, deadlines, and what an answer means.

use std::{
    io::{self, Read as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gix_transport::client::blocking_io::http;
use ureq::{
    Agent, Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header},
    unversioned::resolver::ResolvedSocketAddrs,
};

use super::{
    Error,
    auth::Credentials,
    exchange::{Answer, Exchange, Head},
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

/// As many as git follows at most, `http.followRedirects` being `initial`.
const MAX_REDIRECTS: usize = 10;
/// Some servers know a git client by this beginning.
const USER_AGENT: &str = concat!("git/gitsocket-", env!("CARGO_PKG_VERSION"));

/// What gix sends its requests through.
pub struct Client {
    caller: Arc<Caller>,
    /// Where the repository turned out to be.
    redirected: Option<String>,
}

impl Client {
    /// Read what `options` names: secrets and certificates. `base` is `url` as text, without secrets.
    pub(super) fn new(
        url: &RepoUrl,
        base: &str,
        options: &Options<'_>,
        proxies: Proxies,
    ) -> Result<Self, Error> {
        let origin = Origin::of(&parse(base)?).ok_or_else(|| Error::Url {
            url: url.to_string(),
            reason: "it names no host".into(),
        })?;
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
            caller: Arc::new(Caller {
                agent: Agent::with_parts(config, Forward::default(), resolver),
                deadline: options.deadline,
                credentials: Credentials::read(url, options.auth, options.tls)?,
                asked: AtomicBool::new(false),
                origin,
                proxies,
                roots,
            }),
            redirected: None,
        })
    }

    /// GET `url`, wherever it redirects to. As git, remember where that is, if it is a repository's URL, too.
    fn advertisement(&mut self, url: &str, base: &str, mut headers: HeaderMap) -> Result<Answer, Error> {
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        let mut uri = parse(url)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.caller.send(Method::GET, &uri, &headers, None)?;
            let Some(to) = redirected_to(&response) else {
                let body = self.caller.accept(&uri, response, "advertisement")?;
                let tail = url.strip_prefix(base).unwrap_or(url);
                let at = uri.to_string();
                match at.strip_suffix(tail) {
                    Some(base) => self.redirected = Some(base.to_owned()),
                    None => return Err(refused(url, &uri, "it is not that of a git repository")),
                }
                return Ok(Answer {
                    caller: self.caller.clone(),
                    uri,
                    body,
                });
            };
            uri = location::redirect(&uri, &to).map_err(|(to, reason)| Error::Redirect {
                url: location::shown(&uri),
                to,
                reason,
            })?;
        }
        Err(refused(url, &uri, "there are too many redirects"))
    }
}

impl http::Http for Client {
    type Headers = Head;
    type ResponseBody = io::BufReader<Exchange>;
    type PostBody = Exchange;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::error::Result<http::GetResponse<Self::Headers, Self::ResponseBody>> {
        let exchange = self
            .advertisement(url, base_url, parsed(headers))
            .map(Exchange::answered)
            .map_err(raised)?;
        Ok(http::GetResponse {
            headers: Head::new(&exchange, "advertisement"),
            body: exchange.buffered(),
        })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: http::PostBodyDataKind,
    ) -> gix::error::Result<http::PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let exchange = Exchange::asked(self.caller.clone(), parse(url).map_err(raised)?, parsed(headers));
        Ok(http::PostResponse {
            headers: Head::new(&exchange, "result"),
            body: exchange.clone().buffered(),
            post_body: exchange,
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::error::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected.clone()
    }
}

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
    pub(super) fn accept(&self, uri: &Uri, mut response: Response<Body>, kind: &str) -> Result<Body, Error> {
        let url = location::shown(uri);
        let status = response.status().as_u16();
        if status != 200 {
            let said = said(response.body_mut());
            return Err(match status {
                401 => self.unauthorized(uri, said),
                403 => Error::Forbidden { url, said },
                404 | 410 => Error::NotFound { url, status, said },
                _ => Error::Status { url, status, said },
            });
        }
        let content_type = response.body().mime_type().unwrap_or_default().trim();
        if content_type.eq_ignore_ascii_case(&super::exchange::content_type(kind)) {
            return Ok(response.into_body());
        }
        let content_type = match content_type {
            "" => "something without a type".into(),
            name if name.eq_ignore_ascii_case("text/html") => "a web page".into(),
            name => one_line(name),
        };
        Err(match is_dumb(response.body_mut()) {
            true => Error::Dumb { url },
            false => Error::NotGit { url, content_type },
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

fn refused(url: &str, to: &Uri, reason: &'static str) -> Error {
    Error::Redirect {
        url: parse(url).map(|uri| location::shown(&uri)).unwrap_or_default(),
        to: location::shown(to),
        reason,
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

/// An error as gix takes it; [`super::super::cause`] finds it again.
fn raised(err: Error) -> gix::Error {
    gix::Error::from_error(crate::transport::Error::from(err))
}

fn parse(url: &str) -> Result<Uri, Error> {
    url.parse()
        .map_err(|err: ureq::http::uri::InvalidUri| Error::Url {
            url: url.to_owned(),
            reason: err.to_string(),
        })
}

/// gix's headers, but for its `User-Agent`.
fn parsed(lines: impl IntoIterator<Item = impl AsRef<str>>) -> HeaderMap {
    lines
        .into_iter()
        .filter_map(|line| {
            let (name, value) = line.as_ref().split_once(':')?;
            Some((
                name.parse::<HeaderName>().ok()?,
                HeaderValue::from_str(value.trim()).ok()?,
            ))
        })
        .filter(|(name, _)| name != header::USER_AGENT)
        .collect()
}

fn redirected_to(response: &Response<Body>) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = response.headers().get(header::LOCATION)?;
    Some(String::from_utf8_lossy(to.as_bytes()).into_owned())
}

/// The first line of a plain text, as git shows it.
fn said(body: &mut Body) -> Option<String> {
    if !body.mime_type()?.eq_ignore_ascii_case("text/plain") {
        return None;
    }
    let text = String::from_utf8_lossy(&start(body, 200)).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(one_line(line))
}

/// `info/refs` of a repository that is served as files begins with an object id and a tab.
fn is_dumb(body: &mut Body) -> bool {
    let start = start(body, 65);
    let digits = start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    matches!(digits, 40 | 64) && start.get(digits) == Some(&b'\t')
}

fn start(body: &mut Body, limit: u64) -> Vec<u8> {
    let mut start = Vec::new();
    // What cannot be read is not shown: the answer's status is the error.
    let _read = body.as_reader().take(limit).read_to_end(&mut start);
    start
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
