//! The `ident` attribute: `$Id$` becomes `$Id: <blob> $`, as git's convert.c writes it.
//!
//! gix-filter leaves out the blank before the last dollar and does not replace an expansion that was committed.

use gix::bstr::ByteSlice;

/// `content` with its keywords expanded, or nothing if there are none.
pub(super) fn expand(content: &[u8], hash: gix::hash::Kind) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut id = None;
    let mut rest = content;
    while let Some(dollar) = rest.find_byte(b'$') {
        let (before, after) = rest.split_at(dollar + 1);
        out.extend_from_slice(before);
        rest = after;
        let Some(len) = keyword(rest) else { continue };
        if id.is_none() {
            id = Some(gix::objs::compute_hash(hash, gix::objs::Kind::Blob, content).ok()?);
        }
        if let Some(id) = id {
            out.extend_from_slice(format!("Id: {id} $").as_bytes());
        }
        rest = &rest[len..];
    }
    id?;
    out.extend_from_slice(rest);
    Some(out)
}

/// How many bytes after a dollar make `Id$` or `Id: … $`, if they do.
fn keyword(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"Id$") {
        return Some(3);
    }
    let value = text.strip_prefix(b"Id:")?;
    let end = value.find_byte(b'$')?;
    let value = &value[..end];
    // Blanks inside mean that another version control system wrote it: git keeps those.
    let foreign = value
        .get(1..)
        .and_then(|value| value.find_byte(b' '))
        .is_some_and(|pos| pos + 2 < end);
    (!value.contains(&b'\n') && !foreign).then_some(3 + end + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn as_git_expands_it() {
        let expand = |text: &str| {
            let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, text.as_bytes())
                .unwrap()
                .to_string();
            expand(text.as_bytes(), gix::hash::Kind::Sha1)
                .map(|out| String::from_utf8(out).unwrap().replace(&id, "ID"))
        };
        for (text, want) in [
            ("a $Id$ b $Id$", Some("a $Id: ID $ b $Id: ID $")),
            ("$Id: 0123 $", Some("$Id: ID $")),
            ("$Id:$", Some("$Id: ID $")),
            ("$$Id$$", Some("$$Id: ID $$")),
            ("$Id: file,v 1.2 me $", None),
            ("$Id: \n$", None),
            ("$Id", None),
            ("$id$ none", None),
        ] {
            assert_eq!(expand(text).as_deref(), want, "{text:?}");
        }
    }
}
