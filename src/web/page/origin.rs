//! Where a request comes from, since pages of other sites can make a browser send requests here.

use hyper::{
    HeaderMap, Version,
    header::{FORWARDED, HOST, HeaderName, ORIGIN, VIA},
};

/// Whether a form was sent by a page of ours. Browsers say so in Sec-Fetch-Site, which no page can set; older browsers name the
/// page's host in Origin. A client that is not a browser sends neither, and no other site can make it use a visitor's cookie.
pub(super) fn is_ours(headers: &HeaderMap) -> bool {
    // A header that is there twice is not trusted.
    let text = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap_or("?");
        Some(if values.next().is_some() { "?" } else { value })
    };
    match (text(HeaderName::from_static("sec-fetch-site")), text(ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host.map(str::to_lowercase) == text(HOST).map(str::to_lowercase)
        }
        (None, None) => true,
    }
}

/// Whether a proxy has passed the request on, as far as that can be known: where no user signs in, the proxy could open the page to
/// the internet. Most proxies add a header; nginx adds none by default, but uses HTTP/1.0, which no browser does.
pub(super) fn is_passed_on(headers: &HeaderMap, version: Version) -> bool {
    let is_of_proxy = |name: &HeaderName| {
        [FORWARDED, VIA].contains(name)
            || name.as_str() == "x-real-ip"
            || name.as_str().starts_with("x-forwarded-")
    };
    version < Version::HTTP_11 || headers.keys().any(is_of_proxy)
}

/// Whether the request's Host is a name of this machine: where no user signs in, another name may be an attacker's, whose pages
/// could then read ours (DNS rebinding).
pub(super) fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    match name.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn forms_of_other_sites_are_known() {
        for (given, expected) in [
            (&[("host", "x:8080")][..], true),
            (&[("host", "x:8080"), ("origin", "http://x:8080")], true),
            (&[("host", "X.example"), ("origin", "https://x.example")], true),
            (&[("host", "x:8080"), ("origin", "http://x:8081")], false),
            (&[("host", "x"), ("origin", "http://x.evil.example")], false),
            (&[("host", "x"), ("origin", "null")], false),
            (&[("origin", "null")], false),
            (
                &[
                    ("host", "x"),
                    ("origin", "http://x"),
                    ("origin", "http://evil.example"),
                ],
                false,
            ),
            (
                &[
                    ("host", "x"),
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
            (&[("host", "x"), ("sec-fetch-site", "cross-site")], false),
            (
                &[
                    ("host", "x"),
                    ("sec-fetch-site", "same-site"),
                    ("origin", "http://x"),
                ],
                false,
            ),
            // A proxy may have changed Host.
            (
                &[
                    ("host", "127.0.0.1"),
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "https://x"),
                ],
                true,
            ),
        ] {
            assert_eq!(is_ours(&headers(given)), expected, "{given:?}");
        }
    }

    #[test]
    fn proxies_are_known_by_what_they_add() {
        for (name, expected) in [
            ("forwarded", true),
            ("x-forwarded-for", true),
            ("x-forwarded-proto", true),
            ("x-real-ip", true),
            ("via", true),
            ("x-forwarded", false),
            ("user-agent", false),
        ] {
            let headers = headers(&[("host", "127.0.0.1"), (name, "192.0.2.1")]);
            assert_eq!(is_passed_on(&headers, Version::HTTP_11), expected, "{name}");
        }
        assert!(is_passed_on(&headers(&[]), Version::HTTP_10));
    }

    #[test]
    fn names_of_this_machine() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("192.0.2.1", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(
                is_for_this_machine(&headers(&[("host", host)])),
                expected,
                "{host}"
            );
        }
        assert!(!is_for_this_machine(&headers(&[])));
    }
}
