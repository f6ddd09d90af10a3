//! Words as they can be typed in a shell, cut short, or in hexadecimal.

/// `words`, each quoted if it has to be, with blanks between them.
pub fn typed(words: impl IntoIterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    let quoted = words.into_iter().map(|word| {
        if !word.is_empty() && word.chars().all(is_plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// No more than the first `most` characters of `text`, and a sign where there were more.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_typed() {
        let words = ["once", "-c", "a b/it's.ron", "", "-g", "/srv/site"].map(str::to_owned);
        assert_eq!(typed(words), r"once -c 'a b/it'\''s.ron' '' -g /srv/site");
    }
}
