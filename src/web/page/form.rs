//! Fields of forms and queries: `application/x-www-form-urlencoded`.

use percent_encoding::percent_decode_str;

/// The fields, by their names; of several with one name, the first counts.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Read them. Bytes that are not UTF-8 are replaced.
    pub(super) fn read(text: &str) -> Self {
        let word = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (word(name), word(value)))
                .collect(),
        )
    }

    /// The field `name`; empty if it is missing.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let fields = Fields::read("a=1&b=x+y%26%3d&&c&a=2&%C3%A4=%ff&d==");
        for (name, value) in [
            ("a", "1"),
            ("b", "x y&="),
            ("c", ""),
            ("ä", "\u{fffd}"),
            ("d", "="),
            ("e", ""),
        ] {
            assert_eq!(fields.get(name), value, "{name}");
        }
    }
}
