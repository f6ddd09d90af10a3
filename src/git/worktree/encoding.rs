//! The `working-tree-encoding` attribute: text leaves the repository as UTF-8 and arrives in another encoding.
//!
//! UTF-16, UTF-32 and Latin-1 are written here, as git does with glibc's iconv: the encoders of the web's
//! standard, which gix-filter uses, write UTF-8 where UTF-16 is asked for, and windows-1252 for Latin-1.

use gix::filter::plumbing::{encoding::Encoding, worktree::encode_to_worktree};

/// `content` in the encoding `name`, nothing if that is UTF-8 anyway, or why that cannot be.
pub(super) fn encode(content: &[u8], name: &str) -> Result<Option<Vec<u8>>, String> {
    if content.is_empty() || unicode(name).is_some_and(|rest| rest == "8") {
        return Ok(None);
    }
    let text = || std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned());
    if let Some(encoded) = unicode(name).map(|rest| encode_unicode(text()?, &rest)) {
        return encoded.map(Some);
    }
    if let Some(limit) = single_byte(name) {
        return text()?
            .chars()
            .map(|c| u8::try_from(c).ok().filter(|byte| *byte <= limit))
            .collect::<Option<_>>()
            .map(Some)
            .ok_or_else(|| format!("{name} has no code for one of its characters"));
    }
    let encoding = Encoding::for_label(name.as_bytes()).ok_or_else(|| format!("{name} is not known"))?;
    let mut out = Vec::new();
    encode_to_worktree(content, encoding, &mut out)
        .map(|()| Some(out))
        .map_err(|err| err.to_string())
}

/// What follows `UTF` or `UTF-`, in capitals.
fn unicode(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    let rest = name.strip_prefix("UTF")?;
    Some(rest.strip_prefix('-').unwrap_or(rest).into())
}

/// `UTF-16` and `UTF-32` without an order of bytes: little-endian after a byte order mark.
fn encode_unicode(text: &str, form: &str) -> Result<Vec<u8>, String> {
    let (mark, little, wide) = match form {
        "16" | "16LE-BOM" => (true, true, false),
        "16BE-BOM" => (true, false, false),
        "16LE" => (false, true, false),
        "16BE" => (false, false, false),
        "32" => (true, true, true),
        "32LE" => (false, true, true),
        "32BE" => (false, false, true),
        _ => return Err(format!("UTF-{form} is not known")),
    };
    let mut out = Vec::with_capacity(text.len() * 2);
    for c in mark.then_some('\u{feff}').into_iter().chain(text.chars()) {
        match wide {
            true if little => out.extend(u32::from(c).to_le_bytes()),
            true => out.extend(u32::from(c).to_be_bytes()),
            false => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend(if little {
                        unit.to_le_bytes()
                    } else {
                        unit.to_be_bytes()
                    });
                }
            }
        }
    }
    Ok(out)
}

/// The highest code of an encoding whose codes are Unicode's.
fn single_byte(name: &str) -> Option<u8> {
    match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "iso88591" | "latin1" | "l1" => Some(0xff),
        "ascii" | "usascii" => Some(0x7f),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn as_git_encodes() {
        let encode = |text: &str, name| encode(text.as_bytes(), name).map_err(|_| ());
        assert_eq!(
            encode("aä", "UTF-16"),
            Ok(Some(vec![0xff, 0xfe, b'a', 0, 0xe4, 0]))
        );
        assert_eq!(encode("a", "utf16be"), Ok(Some(vec![0, b'a'])));
        assert_eq!(encode("a", "UTF-16LE-BOM"), Ok(Some(vec![0xff, 0xfe, b'a', 0])));
        assert_eq!(encode("a", "UTF-32BE"), Ok(Some(vec![0, 0, 0, b'a'])));
        assert_eq!(encode("ä\u{85}", "ISO-8859-1"), Ok(Some(vec![0xe4, 0x85])));
        assert_eq!(encode("€", "windows-1252"), Ok(Some(vec![0x80])));
        assert_eq!(encode("ä", "UTF-8"), Ok(None));
        assert_eq!(encode("", "UTF-16"), Ok(None));
        assert_eq!(encode("€", "latin-1"), Err(()));
        assert_eq!(encode("a", "UTF-5"), Err(()));
        assert_eq!(encode("a", "no-such"), Err(()));
        assert!(super::encode(&[0xff], "UTF-16").is_err());
    }
}
