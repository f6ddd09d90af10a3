//! Which proxy stands before a host: `$https_proxy`, `$http_proxy`, `$all_proxy` and `$no_proxy`, read as curl reads them.
//!
//! The environment is read once, into a [`Proxies`]; nothing here looks at it again.

use std::{fmt, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ureq::http::{
    HeaderMap, HeaderValue, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};

use super::{Error, forward, location::Origin};

/// The proxies that the environment names. `Debug` shows none: their URLs may hold passwords.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    never: Vec<String>,
}

/// A proxy as it was written, and where.
#[derive(Clone)]
struct Proxy {
    variable: &'static str,
    url: String,
}

/// How a request gets to its host.
pub(super) enum Route {
    Direct,
    /// Through a `CONNECT` tunnel, in which TLS is spoken with the host itself.
    Tunnel(ureq::Proxy),
    /// Handed to the proxy, which passes it on.
    Forward {
        /// The URL at the proxy's address.
        uri: Uri,
        /// What the proxy and the host need to know besides.
        headers: HeaderMap,
        /// The proxy's name and port.
        proxy: String,
    },
}

impl Proxies {
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// The proxies that `var` knows. `HTTP_PROXY` in upper case does not count: under CGI a client can set it.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|&variable| Some((variable, var(variable)?)))
                .filter(|(_, url)| !url.is_empty())
                .map(|(variable, url)| Proxy { variable, url })
        };
        let never = var("no_proxy").or_else(|| var("NO_PROXY")).unwrap_or_default();
        Self {
            http: first(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            never: never
                .split([',', ' '])
                .filter(|entry| !entry.is_empty())
                .map(str::to_ascii_lowercase)
                .collect(),
        }
    }

    /// The way to `uri`, whose origin is `origin`.
    pub(super) fn route(&self, uri: &Uri, origin: &Origin) -> Result<Route, Error> {
        let proxy = if origin.is_https() {
            &self.https
        } else {
            &self.http
        };
        let Some(Proxy { variable, url }) = proxy else {
            return Ok(Route::Direct);
        };
        if self.never.iter().any(|entry| covers(entry, &origin.host)) {
            return Ok(Route::Direct);
        }
        let wrong = |reason| Error::ProxyUrl { variable, reason };
        // ureq panics at a SOCKS proxy that it has no feature for.
        if url.split_once("://").is_some_and(|(scheme, _)| {
            !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https")
        }) {
            return Err(wrong("only http:// and https:// proxies are supported"));
        }
        let proxy = ureq::Proxy::new(url).map_err(|_| wrong("it is not a URL"))?;
        if origin.is_https() {
            return Ok(Route::Tunnel(proxy));
        }
        forwarded(&proxy, uri).ok_or_else(|| wrong("it is not a URL"))
    }
}

/// A proxy's name and port, for people.
pub(super) fn name(proxy: &ureq::Proxy) -> String {
    format!("{}:{}", proxy.host(), proxy.port())
}

fn forwarded(proxy: &ureq::Proxy, uri: &Uri) -> Option<Route> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(uri.authority()?.as_str()).ok()?);
    if let Some(user) = proxy.username() {
        let pair = format!("{user}:{}", proxy.password().unwrap_or_default());
        let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
        value.set_sensitive(true);
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    let mut parts = ureq::http::uri::Parts::default();
    parts.scheme = proxy.uri().scheme().cloned();
    parts.authority = Some(name(proxy).parse().ok()?);
    parts.path_and_query = Some(forward::path_for(uri).ok()?);
    Some(Route::Forward {
        uri: Uri::from_parts(parts).ok()?,
        headers,
        proxy: name(proxy),
    })
}

/// Whether `entry` of `$no_proxy` covers `host`: a name and all below it, an address, a network, or `*`.
fn covers(entry: &str, host: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return covers_address(entry.trim_start_matches('[').trim_end_matches(']'), address);
    }
    let (entry, host) = (entry.trim_matches('.'), host.trim_end_matches('.'));
    host.strip_suffix(entry)
        .is_some_and(|rest| !entry.is_empty() && (rest.is_empty() || rest.ends_with('.')))
}

fn covers_address(entry: &str, address: IpAddr) -> bool {
    let Some((network, bits)) = entry.split_once('/') else {
        return entry.parse() == Ok(address);
    };
    let Ok(bits) = bits.parse::<u32>() else {
        return false;
    };
    match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) if bits <= 32 => {
            (network.to_bits() ^ address.to_bits())
                .checked_shr(32 - bits)
                .unwrap_or(0)
                == 0
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) if bits <= 128 => {
            (network.to_bits() ^ address.to_bits())
                .checked_shr(128 - bits)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(vars: &[(&str, &str)]) -> Proxies {
        Proxies::from_vars(|name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn way(vars: &[(&str, &str)], url: &str) -> String {
        let uri: Uri = url.parse().unwrap();
        match proxies(vars).route(&uri, &Origin::of(&uri).unwrap()) {
            Ok(Route::Direct) => "direct".into(),
            Ok(Route::Tunnel(proxy)) => format!("tunnel {}", name(&proxy)),
            Ok(Route::Forward { uri, .. }) => format!("forward {uri}"),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn variables_are_read_as_curl_reads_them() {
        let (http, https) = ("http://h/x", "https://h/x");
        for (vars, url, expected) in [
            (&[][..], https, "direct"),
            (&[("HTTPS_PROXY", "http://p:1")], https, "tunnel p:1"),
            (&[("HTTPS_PROXY", "http://p:1")], http, "direct"),
            (
                &[("https_proxy", "q"), ("HTTPS_PROXY", "p")],
                https,
                "tunnel q:80",
            ),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "p")], https, "direct"),
            (&[("HTTP_PROXY", "http://p:1")], http, "direct"),
            (
                &[("http_proxy", "http://p:1")],
                http,
                "forward http://p:1/by-proxy:http://h/x",
            ),
            (&[("ALL_PROXY", "https://p")], https, "tunnel p:443"),
            (
                &[("ALL_PROXY", "socks5://p")],
                https,
                "the proxy in $ALL_PROXY cannot be used: only http:// and https:// proxies are supported",
            ),
            (
                &[("HTTPS_PROXY", "http://")],
                https,
                "the proxy in $HTTPS_PROXY cannot be used: it is not a URL",
            ),
            (&[("ALL_PROXY", "p"), ("NO_PROXY", "x, h")], https, "direct"),
            (&[("ALL_PROXY", "p"), ("no_proxy", "*")], http, "direct"),
        ] {
            assert_eq!(way(vars, url), expected, "{vars:?} {url}");
        }
    }

    #[test]
    fn no_proxy_entries() {
        for (entry, host) in [
            ("a.example", "a.example"),
            (".a.example", "x.a.example"),
            ("a.example", "x.a.example."),
            ("10.0.0.0/8", "10.1.2.3"),
            ("0.0.0.0/0", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("[::1]", "::1"),
            ("fd00::/8", "fd12::1"),
        ] {
            assert!(covers(entry, host), "{entry} {host}");
        }
        for (entry, host) in [
            ("a.example", "ba.example"),
            ("x.a.example", "a.example"),
            (".", "a.example"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/33", "10.0.0.1"),
            ("0.1", "10.0.0.1"),
            ("fd00::/8", "10.0.0.1"),
        ] {
            assert!(!covers(entry, host), "{entry} {host}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        assert!(!format!("{:?}", proxies(&[("ALL_PROXY", "http://me:pw@p")])).contains("pw"));
    }
}
