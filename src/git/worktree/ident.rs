//! The `ident` attribute: `$Id$` becomes `$Id: <blob> $`, as git's convert.c writes it.
//!
//! git has two ways to do it, which differ in what is nearly a keyword. It takes the one or the other by what else is to
//! be converted in a file.

use gix::bstr::ByteSlice;

/// `content`, which is the blob `id`, with its keywords expanded as `ident_to_worktree` in git's convert.c does it: where
/// git looks at the whole content. Nothing if there are none.
pub(super) fn expand(content: &[u8], id: &gix::oid) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut has_keyword = false;
    let mut rest = content;
    while let Some(dollar) = rest.find_byte(b'$') {
        let (before, after) = rest.split_at(dollar + 1);
        out.extend_from_slice(before);
        rest = after;
        let Some(len) = keyword(rest) else { continue };
        has_keyword = true;
        out.extend_from_slice(format!("Id: {id} $").as_bytes());
        rest = &rest[len..];
    }
    out.extend_from_slice(rest);
    has_keyword.then_some(out)
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

/// What a keyword begins with. git compares with the NUL at its end, too.
const HEAD: [u8; 4] = *b"$Id\0";

/// How far a keyword has been seen.
#[derive(Clone, Copy)]
enum Seen {
    /// How many bytes of [`HEAD`].
    Head(usize),
    /// What is after a colon.
    Value,
}

/// The same as `ident_filter_fn` in git's convert.c does it, step by step: where git reads a blob piece by piece.
pub(super) fn expand_streamed(content: &[u8], id: &gix::oid) -> Option<Vec<u8>> {
    content.find(&HEAD[..3])?;
    let expansion = format!(": {id} $");
    let mut out = Vec::with_capacity(content.len());
    // What may yet be replaced. Where a keyword does not come about, git goes on with it.
    let mut held = Vec::new();
    let mut seen = Seen::Head(0);
    for byte in content.iter().copied() {
        seen = match seen {
            Seen::Value => {
                held.push(byte);
                if byte != b'\n' && byte != b'$' {
                    continue;
                }
                if byte == b'$' && !is_foreign(&held) {
                    held.truncate(3);
                    held.extend_from_slice(expansion.as_bytes());
                }
                out.append(&mut held);
                Seen::Head(0)
            }
            Seen::Head(len) if HEAD.get(len) == Some(&byte) => Seen::Head(len + 1),
            Seen::Head(len) => {
                held.extend_from_slice(&HEAD[..len]);
                if len == 3 && byte == b'$' {
                    held.extend_from_slice(expansion.as_bytes());
                } else {
                    held.push(byte);
                }
                match (len, byte) {
                    (3, b':') => Seen::Value,
                    (3, _) if byte != b'$' => Seen::Head(0),
                    _ => {
                        out.append(&mut held);
                        Seen::Head(0)
                    }
                }
            }
        };
    }
    out.append(&mut held);
    if let Seen::Head(len) = seen {
        out.extend_from_slice(&HEAD[..len]);
    }
    Some(out)
}

/// As `is_foreign_ident` in git's convert.c, which looks at `held` up to a NUL.
fn is_foreign(held: &[u8]) -> bool {
    let Some(value) = held.strip_prefix(b"$Id: ") else {
        return false;
    };
    let end = value.find_byte(0).unwrap_or(value.len());
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    (0..end).any(|at| is_space(value[at]) && value.get(at + 1) != Some(&b'$'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Of each text: what git makes of it where it reads all of it, and where it reads it piece by piece.
    #[test]
    fn as_git_expands_it() {
        let id = gix::ObjectId::empty_blob(gix::hash::Kind::Sha1);
        let shown = |out: Option<Vec<u8>>, text: &str| {
            let out = out.map_or(text.to_owned(), |out| String::from_utf8(out).unwrap());
            out.replace(&id.to_string(), "ID")
        };
        for (text, whole, streamed) in [
            (
                "a $Id$ b $Id$",
                "a $Id: ID $ b $Id: ID $",
                "a $Id: ID $ b $Id: ID $",
            ),
            ("$Id: 0123 $", "$Id: ID $", "$Id: ID $"),
            ("$Id:$", "$Id: ID $", "$Id: ID $"),
            ("$$Id$$", "$$Id: ID $$", "$$Id$$"),
            ("$$$Id$", "$$$Id: ID $", "$$$Id: ID $"),
            ("$Id:x y$", "$Id:x y$", "$Id: ID $"),
            ("$Id: x\ty $", "$Id: ID $", "$Id: x\ty $"),
            ("$Idx$Id$", "$Idx$Id: ID $", "$Idx$Id: ID $"),
            // So it is: four bytes are lost.
            ("$Idx$Id: y $", "$Idx$Id: ID $", "$Id: ID $"),
            ("$Id\0$Id$", "$Id\0$Id: ID $", "$Id\0$Id$"),
            (
                "$Id: file,v 1.2 me $",
                "$Id: file,v 1.2 me $",
                "$Id: file,v 1.2 me $",
            ),
            ("$Id: \n$Id$", "$Id: \n$Id: ID $", "$Id: \n$Id: ID $"),
            ("$Id", "$Id", "$Id"),
            ("$Id: x", "$Id: x", "$Id: x"),
            ("$id$ none", "$id$ none", "$id$ none"),
        ] {
            assert_eq!(shown(expand(text.as_bytes(), &id), text), whole, "{text:?}");
            assert_eq!(
                shown(expand_streamed(text.as_bytes(), &id), text),
                streamed,
                "{text:?}"
            );
        }
    }
}
