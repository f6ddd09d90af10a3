//! What people see.

use hyper::{Request, StatusCode, body::Incoming};
use maud::{DOCTYPE, html};

use super::{
    answer::{self, Answer},
    client::Client,
    config::Page,
    daemon::Link,
};

/// Answer a request for what the page has.
pub async fn answer(_page: &Page, _link: &Link, request: Request<Incoming>, _client: &Client) -> Answer {
    let page = html! {
        (DOCTYPE)
        title { "gitsocket" }
        p { "Nothing at " (request.uri().path()) " yet." }
    };
    answer::html(StatusCode::NOT_FOUND, page)
}
