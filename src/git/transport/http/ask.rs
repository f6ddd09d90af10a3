//! A question to a web server of which nothing but the answer's status counts: whether it is well, say. It is asked
//! without credentials and proxies; no redirect is followed, and nothing of a body is read.

use ureq::{
    Agent,
    http::{
        HeaderValue, Request, StatusCode, Uri, header,
        uri::{Authority, PathAndQuery},
    },
};

use super::{
    agent::Names,
    certificate::Shown,
    last_words::Connections,
    location::{self, Origin},
    tls::{self, Setup},
};
use crate::{
    base::fault::one_line,
    git::{origin::Tls, transport::Deadline},
};

/// How a server is asked that is not asked for git.
const USER_AGENT: &str = concat!("gitsocket/", env!("CARGO_PKG_VERSION"));

/// A URL that can be asked again and again, each time over a new connection.
pub struct Question {
    agent: Agent,
    tls: Setup,
    /// What is asked for, at the host that the server is to take itself for.
    uri: Uri,
    host: HeaderValue,
    shown: String,
}

/// There was no answer, or the URL cannot be asked: why, in half a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(String);

impl Question {
    /// `url` is asked, and the server takes itself for `host`, in its `Host` header and in TLS; else for the URL's. Whom to
    /// trust are Mozilla's roots.
    pub fn new(url: &str, host: Option<&str>) -> Result<Self, Unanswered> {
        let invalid = |why: &str| Unanswered(format!("the URL cannot be asked: {why}"));
        let asked: Uri = url.parse().map_err(|_| invalid("it is no URL"))?;
        let origin = Origin::of(&asked).ok_or_else(|| invalid("it is neither http:// nor https://"))?;
        let host = host.map_or_else(|| origin.to_string(), str::to_owned);
        let name: Authority = host.parse().map_err(|_| invalid("its `host` is none"))?;
        let scheme = if origin.is_https() { "https" } else { "http" };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(format!("{}:{}", name.host(), origin.port))
            .path_and_query(
                asked
                    .path_and_query()
                    .cloned()
                    .unwrap_or_else(|| PathAndQuery::from_static("/")),
            )
            .build()
            .map_err(|err| invalid(&err.to_string()))?;
        let tls = tls::setup(&Tls::default()).map_err(|err| Unanswered(err.to_string()))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None)
            .tls_config(tls.config.clone())
            .user_agent(USER_AGENT)
            .build();
        Ok(Self {
            // Whatever the server is to take itself for, it is where the URL says.
            agent: Agent::with_parts(config, Connections::default(), Names::at(origin)),
            tls,
            uri,
            host: HeaderValue::from_str(&host).map_err(|_| invalid("its `host` is none"))?,
            shown: location::shown(&asked),
        })
    }

    /// The URL for people: without a user, password and query.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or_default()
    }

    /// Ask once. The head of the answer must be here by `deadline`.
    pub fn ask(&self, deadline: Deadline) -> Result<StatusCode, Unanswered> {
        let late = || {
            let limit = humantime::format_duration(deadline.after());
            Unanswered(format!("no answer within {limit}"))
        };
        let left = deadline.left().map_err(|_| late())?;
        let mut request = Request::get(self.uri.clone())
            .body(())
            .map_err(|err| Unanswered(err.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(left))
            .build();
        let answered = self.agent.run(request);
        answered.map(|answer| answer.status()).map_err(|err| match err {
            ureq::Error::Timeout(_) => late(),
            err => Unanswered(one_line(&self.explain(err))),
        })
    }

    fn explain(&self, err: ureq::Error) -> String {
        let fault = |err: &rustls::Error| {
            let host = self.uri.host().unwrap_or_default();
            self.tls.fault(err, host, Shown::None).to_string()
        };
        match err {
            ureq::Error::Rustls(err) => fault(&err),
            ureq::Error::Io(err) => {
                let tls = err.get_ref().and_then(|err| err.downcast_ref::<rustls::Error>());
                tls.map_or_else(|| err.to_string(), fault)
            }
            err => err.to_string(),
        }
    }
}
