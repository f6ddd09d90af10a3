//! Cookies of a request, and those that an answer sets.

use hyper::{
    Request,
    body::Incoming,
    header::{COOKIE, HeaderValue, SET_COOKIE},
};

use crate::web::{answer::Answer, client::Client, session::Cookie};

/// The values of this cookie in `request`; a browser may send several.
pub(super) fn cookies(cookie: Cookie, request: &Request<Incoming>, client: &Client) -> Vec<String> {
    let headers = request.headers().get_all(COOKIE).iter();
    let headers = headers.filter_map(|header| header.to_str().ok());
    let values = cookie.values(headers, client.tls).into_iter();
    values.map(Into::into).collect()
}

pub(super) fn with_cookie(mut answer: Answer, cookie: Cookie, value: &str, client: &Client) -> Answer {
    if let Ok(value) = HeaderValue::from_str(&cookie.set(value, client.tls)) {
        answer.headers_mut().append(SET_COOKIE, value);
    }
    answer
}
