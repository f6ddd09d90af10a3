//! gix's HTTP requests, as gix's trait wants them; and the redirects of the first.

use std::{io, sync::Arc};

use gix_transport::client::blocking_io::http;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::{
    Error, Proxies,
    answer::redirected_to,
    caller::Caller,
    exchange::{Answer, Exchange, Head},
    location::{self, Origin},
};
use crate::{
    base::name::RepoUrl,
    git::transport::{Offers, Options},
};

/// The most that git follows, `http.followRedirects` being `initial`.
const MAX_REDIRECTS: usize = 10;

/// What gix sends its requests through.
pub struct Client {
    caller: Arc<Caller>,
    /// Where the repository turned out to be.
    redirected: Option<String>,
    offers: Option<Offers>,
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
        Ok(Self {
            caller: Arc::new(Caller::new(url, origin, options, proxies)?),
            redirected: None,
            offers: options.offers.cloned(),
        })
    }

    /// GET `url`, wherever it redirects to. As git, remember where that is, if it is a repository's URL, too.
    fn advertisement(&mut self, url: &str, base: &str, mut headers: HeaderMap) -> Result<Answer, Error> {
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        let mut uri = parse(url)?;
        for hops in 0..=MAX_REDIRECTS {
            let response = self.caller.send(Method::GET, &uri, &headers, None)?;
            let Some(to) = redirected_to(&response) else {
                let body = self.caller.accept(&uri, response, "advertisement")?;
                if hops > 0 {
                    let tail = url.strip_prefix(base).unwrap_or(url);
                    let Some(base) = uri.to_string().strip_suffix(tail).map(str::to_owned) else {
                        return Err(refused(url, &uri, "it is not that of a git repository"));
                    };
                    self.redirected = Some(base);
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
        let exchange = match self.offers.as_ref().and_then(Offers::known) {
            Some(offer) => Exchange::known(self.caller.clone(), parse(url).map_err(raised)?, offer),
            None => {
                let answer = self
                    .advertisement(url, base_url, parsed(headers))
                    .map_err(raised)?;
                // What another place has said is asked for again: it may redirect to a third one by then.
                let offers = self.offers.as_ref().filter(|_| self.redirected.is_none());
                Exchange::answered(answer, offers)
            }
        };
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

fn refused(url: &str, to: &Uri, reason: &'static str) -> Error {
    Error::Redirect {
        url: parse(url).map(|uri| location::shown(&uri)).unwrap_or_default(),
        to: location::shown(to),
        reason,
    }
}

/// An error as gix takes it; [`super::super::cause`] finds it again.
fn raised(err: Error) -> gix::Error {
    gix::Error::from_error(crate::git::transport::Error::from(err))
}

fn parse(url: &str) -> Result<Uri, Error> {
    url.parse()
        .map_err(|err: ureq::http::uri::InvalidUri| Error::Url {
            url: url.to_owned(),
            reason: err.to_string(),
        })
}

/// gix's headers, except its `User-Agent`.
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
