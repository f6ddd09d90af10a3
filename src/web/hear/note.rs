//! The note of a run that a delivery triggers: `GitHub push to refs/heads/main, delivery 72d3162e-…`.
//!
//! Ref and id are texts of the sender, which is authenticated but not trusted: they are in the note only if they are valid, and are
//! shortened.

use crate::{
    base::{
        name::{Note, RefName},
        words::cut,
    },
    web::{config::From, forge::Pushed},
};

/// The longest ref in a note, in characters; most branches have less than half of that.
const MAX_REF: usize = 80;
/// The longest id in a note, in characters; most forges send a UUID, which has 36.
const MAX_ID: usize = 64;

/// The note of a delivery by `from`, a push to the refs `meant`; if there are none, the refs of the push are not known.
pub(super) fn of(from: &From, meant: &[&Pushed], id: Option<&str>) -> Option<Note> {
    let what = match meant {
        [] => "call".to_owned(),
        [first, more @ ..] => {
            let to = known_ref(&first.name).map(|name| format!(" to {name}"));
            let more = match more.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("push{}{more}", to.unwrap_or_default())
        }
    };
    let id = id.filter(|id| is_id(id));
    let id = id.map(|id| format!(", delivery {}", cut(id, MAX_ID)));
    Note::lossy(&format!("{} {what}{}", from.word(), id.unwrap_or_default()))
}

/// `name`, if it is a valid branch or tag.
fn known_ref(name: &str) -> Option<String> {
    let known = match name.strip_prefix("refs/tags/") {
        Some(tag) => RefName::tag(tag),
        None => RefName::branch(name.strip_prefix("refs/heads/")?),
    };
    known.ok().map(|name| cut(name.as_str(), MAX_REF))
}

fn is_id(id: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    !id.is_empty() && id.bytes().all(is_fit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::name::AbsPath;

    #[test]
    fn what_is_noted_is_what_it_should_be() {
        let from = From::GitHub {
            secret_files: vec![AbsPath::resolve(Path::new("/"), Path::new("secret")).unwrap()],
        };
        let pushed = |name: &str| Pushed {
            name: name.into(),
            is_deleted: false,
        };
        let long = "x".repeat(100);
        let branch = format!("refs/heads/{long}");
        for (names, id, expected) in [
            (
                &["refs/heads/main"][..],
                Some("72d3162e-cc78"),
                "GitHub push to refs/heads/main, delivery 72d3162e-cc78".to_owned(),
            ),
            (
                &["refs/tags/v1", "refs/heads/main", "refs/heads/x"],
                None,
                "GitHub push to refs/tags/v1 and 2 more".into(),
            ),
            (&[], Some("a:1"), "GitHub call, delivery a:1".into()),
            // A text that is not a valid ref or id is left out.
            (&["main"], Some("a\nb"), "GitHub push".into()),
            (&["refs/heads/a b"], Some("a b"), "GitHub push".into()),
            (&["refs/heads/\u{1b}[2J"], Some(""), "GitHub push".into()),
            (&["refs/heads/../x"], Some("\"x\""), "GitHub push".into()),
            (
                &[&branch],
                Some(&long),
                format!(
                    "GitHub push to refs/heads/{}…, delivery {}…",
                    &long[..69],
                    &long[..64]
                ),
            ),
        ] {
            let pushed: Vec<Pushed> = names.iter().copied().map(pushed).collect();
            let pushed: Vec<&Pushed> = pushed.iter().collect();
            assert_eq!(of(&from, &pushed, id).unwrap().as_str(), expected);
        }
    }
}
