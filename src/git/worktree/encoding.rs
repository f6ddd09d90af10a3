//! The `working-tree-encoding` attribute: text leaves the repository as UTF-8 and arrives in another encoding.
//!
//! git asks iconv, and here glibc's counts: its names, and its codes. What git can encode and this program cannot is an
//! error; what git cannot encode either stays as it is, and git says so, too. Other bytes are never written without a message.

mod double;
mod others;
mod tables;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unencoded {
    /// git cannot do it either, and writes what is in the repository.
    Left,
    /// git can, or may, for this reason.
    Refused(String),
}

/// An encoding that git, or glibc, has a name for.
#[derive(Clone, Copy)]
enum Encoding {
    Unicode(Form),
    /// Its characters above ASCII, see [`tables::TABLES`].
    Single(&'static str),
    Double(&'static double::Double),
    Other,
}

#[derive(Clone, Copy)]
struct Form {
    /// Whether a byte order mark comes first.
    mark: bool,
    little: bool,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Utf16,
    /// As UTF-16, without pairs of units.
    Ucs2,
    Utf32,
}

/// Whether `name` is what text is encoded in anyway, as `same_encoding` in git's utf8.c.
pub(super) fn is_utf8(name: &str) -> bool {
    matches!(name.to_ascii_uppercase().as_str(), "UTF-8" | "UTF8")
}

pub(super) fn encode(content: &[u8], name: &str) -> Result<Vec<u8>, Unencoded> {
    let encoding = find(name).ok_or(Unencoded::Left)?;
    let text = std::str::from_utf8(content).map_err(|_| Unencoded::Left)?;
    match encoding {
        _ if text.is_empty() => Ok(Vec::new()),
        Encoding::Unicode(form) => form.encode(text).ok_or(Unencoded::Left),
        Encoding::Single(chars) => single(text, chars).ok_or(Unencoded::Left),
        Encoding::Double(double) => double.encode(text).map_err(|c| {
            Unencoded::Refused(format!(
                "gitsocket and git may differ in the code of {c:?} (U+{:04X})",
                u32::from(c)
            ))
        }),
        Encoding::Other => Err(Unencoded::Refused("gitsocket does not know this encoding".into())),
    }
}

/// The encoding `name`; nothing if glibc does not know it.
fn find(name: &str) -> Option<Encoding> {
    let known = name.to_ascii_uppercase();
    let marked = match known.strip_prefix("UTF").map(|rest| rest.trim_start_matches('-')) {
        // git's own.
        Some("16LE-BOM") => Some(true),
        Some("16BE-BOM") => Some(false),
        _ => None,
    };
    if let Some(little) = marked {
        return Some(Encoding::Unicode(Form::new(true, little, Unit::Utf16)));
    }
    // glibc overlooks other signs than these, and takes what follows a slash for a wish (`//TRANSLIT`).
    let is_sign = |c: &char| c.is_ascii_alphanumeric() || "_-.,:/".contains(*c);
    let plain: String = known.chars().filter(is_sign).collect();
    let base = plain.split('/').next().unwrap_or_default();
    let found = find_plain(base)?;
    Some(if base == known { found } else { Encoding::Other })
}

fn find_plain(name: &str) -> Option<Encoding> {
    // The locale's.
    if name.is_empty() {
        return Some(Encoding::Other);
    }
    if let Some(form) = Form::of(name) {
        return Some(Encoding::Unicode(form));
    }
    let has = |names: &str| names.split(' ').any(|known| known == name);
    // git tries another spelling of this one.
    let single = tables::TABLES
        .iter()
        .find(|(names, _)| has(names) || (name == "LATIN-1" && names.starts_with("ISO-8859-1 ")));
    if let Some((_, chars)) = single {
        return Some(Encoding::Single(chars));
    }
    let double = double::ALL.iter().find(|double| has(double.names));
    let other = || has(others::OTHERS).then_some(Encoding::Other);
    double.map(Encoding::Double).or_else(other)
}

impl Form {
    const fn new(mark: bool, little: bool, unit: Unit) -> Self {
        Self { mark, little, unit }
    }

    /// What glibc means by `name` on machines whose bytes are in ascending order.
    fn of(name: &str) -> Option<Self> {
        use Unit::{Ucs2, Utf16, Utf32};
        Some(match name {
            "UTF-16" | "UTF16" => Self::new(true, true, Utf16),
            "UTF-16LE" | "UTF16LE" => Self::new(false, true, Utf16),
            "UTF-16BE" | "UTF16BE" => Self::new(false, false, Utf16),
            "UTF-32" | "UTF32" => Self::new(true, true, Utf32),
            "UTF-32LE" | "UTF32LE" | "UCS-4LE" => Self::new(false, true, Utf32),
            "UTF-32BE" | "UTF32BE" | "UCS-4BE" | "UCS-4" | "UCS4" => Self::new(false, false, Utf32),
            "UCS-2" | "UCS2" | "UCS-2LE" => Self::new(false, true, Ucs2),
            "UCS-2BE" => Self::new(false, false, Ucs2),
            _ => return None,
        })
    }

    fn encode(self, text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len() * 2);
        for c in self.mark.then_some('\u{feff}').into_iter().chain(text.chars()) {
            if self.unit == Unit::Utf32 {
                let code = u32::from(c);
                out.extend(if self.little {
                    code.to_le_bytes()
                } else {
                    code.to_be_bytes()
                });
                continue;
            }
            let mut units = [0; 2];
            match c.encode_utf16(&mut units) {
                [_, _] if self.unit == Unit::Ucs2 && is_tag(c) => {}
                [_, _] if self.unit == Unit::Ucs2 => return None,
                units => {
                    for unit in units {
                        out.extend(if self.little {
                            unit.to_le_bytes()
                        } else {
                            unit.to_be_bytes()
                        });
                    }
                }
            }
        }
        Some(out)
    }
}

/// `text` in an encoding of one byte a character.
fn single(text: &str, chars: &str) -> Option<Vec<u8>> {
    let first: u8 = if chars.chars().count() == 96 { 0xa0 } else { 0x80 };
    let mut codes: Vec<(char, u8)> = (0x80..first)
        .map(|code| (char::from(code), code))
        .chain(chars.chars().zip(first..=0xff))
        .filter(|(c, _)| *c != char::REPLACEMENT_CHARACTER)
        .collect();
    codes.sort_unstable();
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c as u8);
        } else if let Ok(at) = codes.binary_search_by_key(&c, |(c, _)| *c) {
            out.push(codes[at].1);
        } else if !is_tag(c) {
            return None;
        }
    }
    Some(out)
}

/// Characters that glibc leaves out where an encoding has none for them.
fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
