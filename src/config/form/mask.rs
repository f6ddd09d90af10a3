//! Hides what may be a secret in a configuration's text before it is shown.
//!
//! It works on the bare text, since what is shown may not even be RON, and rather hides too much. Each byte
//! of a secret becomes one `*`: spans stay right.

use std::ops::Range;

use zeroize::Zeroizing;

/// Words that name a secret. A field ending in one should not be there, but its value must not be shown either.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "passphrase", "token", "secret"];
/// What names a user; a password may follow the name after a colon.
const USER: &str = "user";

/// The RON `text` with secrets as asterisks, and without control characters that a terminal would obey.
pub(crate) fn mask(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let end = match ron::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => End::Quote,
        Err(_) => End::Line,
    };
    for range in userinfo(text, end).into_iter().chain(named_secrets(text, end)) {
        bytes[range].fill(b'*');
    }
    for byte in &mut bytes {
        if byte.is_ascii_control() && !b"\n\t".contains(byte) {
            *byte = if *byte == b'\r' { b' ' } else { b'?' };
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the end of its string.
    Quote,
    /// At the end of its line: in a text with a wrong syntax it is not known which quote ends what.
    Line,
}

/// `message` about `url`, without any of its user and password.
pub(crate) fn redact(message: &str, url: &str) -> String {
    let mut message = Zeroizing::new(message.to_owned());
    for range in userinfo(url, End::Line) {
        let whole = &url[range];
        for secret in std::iter::once(whole).chain(whole.split([':', '/', '@'])) {
            // Very short ones would hit innocent letters, and tell nothing.
            if secret.len() > 2 {
                message = Zeroizing::new(message.replace(secret, "***"));
            }
        }
    }
    std::mem::take(&mut *message)
}

/// User, password and query of every URL in `text`: a token may stand in any of these places.
///
/// All up to the last `@` counts, since a password that was not encoded may hold any character.
fn userinfo(text: &str, end: End) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    // One slash of the two may have been forgotten.
    for (at, _) in text.match_indices(":/") {
        let start = at + if text[at..].starts_with("://") { 3 } else { 2 };
        let line = text[start..].lines().next().unwrap_or_default();
        let rest = &line[..string_end(line, "", end)];
        if let Some(query) = rest.find('?') {
            out.push(start + query + 1..start + rest.len());
        }
        let length = match rest.rfind('@') {
            // The `@` may be escaped.
            _ if rest.contains('\\') => rest.len(),
            Some(length) => length,
            None => continue,
        };
        out.push(start..start + length);
    }
    out
}

/// The values in `text` that are called a secret: `password: "…"`, `"API_TOKEN": "…"`.
fn named_secrets(text: &str, end: End) -> Vec<Range<usize>> {
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let mut out = Vec::new();
    for word in SECRET_WORDS.into_iter().chain([USER]) {
        for (at, _) in lower.match_indices(word) {
            let after = &text[at + word.len()..];
            let value = after.strip_prefix('"').unwrap_or(after).trim_start();
            let Some(value) = value.strip_prefix(':') else {
                continue;
            };
            let value = value.trim_start();
            let value = value.strip_prefix("Some(").unwrap_or(value).trim_start();
            // A plain or a raw string, or a bare word.
            let open = value
                .find('"')
                .filter(|open| value[..*open].chars().all(|c| c == 'r' || c == '#'));
            let value_at = text.len() - value.len();
            let (start, length) = match open {
                Some(open) => {
                    let start = value_at + open + 1;
                    (start, string_end(&text[start..], &value[..open], end))
                }
                None => (
                    value_at,
                    value
                        .find(|c: char| " \t\n,)]}([{".contains(c))
                        .unwrap_or(value.len()),
                ),
            };
            let end = start + length;
            let public = match text[start..end].find(':') {
                _ if word != USER => 0,
                Some(colon) => colon + 1,
                None => continue,
            };
            out.push(start + public..end);
        }
    }
    out
}

/// The length of the string that `rest` begins with, up to its closing quote.
fn string_end(rest: &str, prefix: &str, end: End) -> usize {
    if end == End::Line {
        return rest.lines().next().unwrap_or_default().len();
    }
    let hashes = prefix.trim_start_matches('r');
    let close = format!("\"{hashes}");
    if prefix.is_empty() {
        let mut escaped = false;
        for (at, c) in rest.char_indices() {
            match c {
                '"' if !escaped => return at,
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        return rest.len();
    }
    rest.find(&close).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_asterisks_of_the_same_length() {
        for (text, shown) in [
            (r#"["https://h/x"]"#, r#"["https://h/x"]"#),
            (r#"["https://me:pw@h/x"]"#, r#"["https://*****@h/x"]"#),
            (
                r#"["https://me:p@w@h/x"] // me@h"#,
                r#"["https://******@h/x"] // me@h"#,
            ),
            (r#"["https://me:p/w@h/x"]"#, r#"["https://******@h/x"]"#),
            (r#"["https:/me:pw@h/x"]"#, r#"["https:/*****@h/x"]"#),
            (r#"["https://h/x?token=y"]"#, r#"["https://h/x?*******"]"#),
            (r#"["https://ghp_1@h/x"]"#, r#"["https://*****@h/x"]"#),
            (r#"["https://me:p\"w@h/x", 1]"#, r#"["https://***********", 1]"#),
            (r#"["https://me:pw\x40h/x"]"#, r#"["https://************"]"#),
            ("[] // https://me:p w@h", "[] // https://******@h"),
            ("[] // https://me:ä@h\n// x@y", "[] // https://*****@h\n// x@y"),
            (r#"(password: "pw", a: 1)"#, r#"(password: "**", a: 1)"#),
            (r#"(password: Some("pw"))"#, r#"(password: Some("**"))"#),
            (r##"(token: r#"p"w"#)"##, r##"(token: r#"***"#)"##),
            (r#"{"API_TOKEN" : "p\"w"}"#, r#"{"API_TOKEN" : "****"}"#),
            ("(password: 1234, a: 1)", "(password: ****, a: 1)"),
            (r#"(user: "me")"#, r#"(user: "me")"#),
            (r#"(user: "me:pw")"#, r#"(user: "me:**")"#),
            (r#"(token_file: "x")"#, r#"(token_file: "x")"#),
            // Where the syntax is wrong, all to the end of the line.
            (r#"(password: "pw)"#, r#"(password: "***"#),
            ("(password: \"p\"w\",\na: 1)", "(password: \"*****\na: 1)"),
            (r#"("https://me:p"w@h")"#, r#"("https://******@h")"#),
            ("[] // \x1b[2J\r\n\t", "[] // ?[2J \n\t"),
        ] {
            assert_eq!(mask(text), shown);
            assert_eq!(mask(text).len(), text.len());
        }
    }

    #[test]
    fn messages_are_redacted() {
        assert_eq!(
            redact("bad port \"hunter2\" of me", "https://me:hunter2@h"),
            "bad port \"***\" of me"
        );
        assert_eq!(redact("bad host", "https://h"), "bad host");
    }
}
