//! The files of the pages. Each has a digest of its content in its name, so that a browser may cache it for ever.

use std::sync::LazyLock;

use ring::digest::{SHA256, digest};

use crate::base::words::hex;

pub(super) const STYLE: usize = 0;
pub(super) const SCRIPT: usize = 1;
/// The icon in the browser's tab.
pub(super) const ICON: usize = 2;
/// The icon in the browser's tab while a trigger fails.
pub(super) const FAILING: usize = 3;

pub(super) struct Asset {
    path: String,
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

/// Digits of the digest in a name.
const DIGITS: usize = 12;

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    const CSS: &str = "text/css; charset=utf-8";
    const JS: &str = "text/javascript; charset=utf-8";
    const SVG: &str = "image/svg+xml";
    [
        asset("style", "css", CSS, include_bytes!("../assets/style.css")),
        asset("page", "js", JS, include_bytes!("../assets/page.js")),
        asset("icon", "svg", SVG, include_bytes!("../assets/icon.svg")),
        asset("failing", "svg", SVG, include_bytes!("../assets/failing.svg")),
    ]
});

fn asset(name: &str, ends: &str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    let mut hash = hex(digest(&SHA256, bytes).as_ref());
    hash.truncate(DIGITS);
    Asset {
        path: format!("/assets/{name}-{hash}.{ends}"),
        content_type,
        bytes,
    }
}

pub(super) fn path(asset: usize) -> &'static str {
    &ASSETS[asset].path
}

pub(super) fn at(path: &str) -> Option<&'static Asset> {
    match path {
        "/favicon.svg" => Some(&ASSETS[ICON]),
        path => ASSETS.iter().find(|asset| asset.path == path),
    }
}
