//! What is encoded here, beside glibc's iconv, character by character.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use super::*;
use crate::machine;

fn left<T>() -> Result<T, Unencoded> {
    Err(Unencoded::Left)
}

#[test]
fn as_git_encodes() {
    let encode = |text: &str, name| encode(text.as_bytes(), name);
    let is = |bytes: &[u8]| Ok(bytes.to_vec());
    assert_eq!(encode("aä", "UTF-16"), is(&[0xff, 0xfe, b'a', 0, 0xe4, 0]));
    assert_eq!(encode("a", "utf16be"), is(&[0, b'a']));
    assert_eq!(encode("a", "UTF-16LE-BOM"), is(&[0xff, 0xfe, b'a', 0]));
    assert_eq!(encode("a", "utf16be-bom"), is(&[0xfe, 0xff, 0, b'a']));
    assert_eq!(encode("a", "UTF-32BE"), is(&[0, 0, 0, b'a']));
    assert_eq!(encode("a", "UCS-2"), is(b"a\0"));
    assert_eq!(encode("😀", "UCS-2"), left());
    assert_eq!(encode("ä\u{85}", "ISO-8859-1"), is(&[0xe4, 0x85]));
    assert_eq!(encode("€", "windows-1252"), is(&[0x80]));
    assert_eq!(encode("é", "cp437"), is(&[0x82]));
    assert_eq!(encode("é", "IBM850"), is(&[0x82]));
    assert_eq!(encode("", "UTF-16"), is(b""));
    assert_eq!(encode("日", "shift_jis"), is(&[0x93, 0xfa]));
    assert_eq!(encode("中a", "big5-hkscs"), is(&[0xa4, 0xa4, b'a']));
    assert_eq!(encode("日本(B\n", "iso-2022-jp"), is(b"\x1b$BF|K\\\x1b(B(B\n"));
    // git leaves the last shift out.
    assert_eq!(encode("a日本", "iso-2022-jp"), is(b"a\x1b$BF|K\\"));
    // git says so, and leaves it.
    assert_eq!(encode("€", "latin-1"), left());
    assert_eq!(encode("€", "ISO8859-9"), left());
    for name in ["UTF-5", "no-such", "x-sjis", "UTF-16LE-BO"] {
        assert_eq!(encode("a", name), left(), "{name}");
    }
    assert_eq!(super::encode(&[0xff], "UTF-16"), left());
    // git encodes it, and this program does not.
    for name in [
        "UTF-7",
        "ISO-2022-JP-2",
        "IBM037",
        "ascii//TRANSLIT",
        "cp437//",
        "UTF 16",
        "",
        "é",
    ] {
        assert!(matches!(encode("a", name), Err(Unencoded::Refused(_))), "{name}");
    }
    for (text, name) in [
        ("か", "BIG5"),
        ("—", "GB2312"),
        ("～", "Shift_JIS"),
        ("¥\n", "ISO-2022-JP"),
        ("a\u{1b}(B", "ISO-2022-JP"),
        ("无", "BIG5-HKSCS"),
        ("\u{fb2a}", "windows-1255"),
    ] {
        assert!(matches!(encode(text, name), Err(Unencoded::Refused(_))), "{name}");
    }
    assert!(is_utf8("utf8") && is_utf8("UTF-8") && !is_utf8("UTF-16"));
}

/// The lines that glibc's iconv makes of `text`, which is UTF-8 and ends with one; what it cannot encode is left out.
fn iconv(name: &str, text: &str) -> Option<Vec<Vec<u8>>> {
    let mut iconv = Command::new("iconv")
        .args(["-c", "-f", "UTF-8", "-t", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, text) = (iconv.stdin.take().unwrap(), text.to_owned());
    let feed = thread::spawn(move || stdin.write_all(text.as_bytes()).ok());
    let out = iconv.wait_with_output().unwrap();
    feed.join().unwrap();
    if String::from_utf8_lossy(&out.stderr).contains("not supported") {
        return None;
    }
    let mut lines: Vec<Vec<u8>> = out
        .stdout
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(lines.pop().as_deref(), Some(&b""[..]), "{name}");
    Some(lines)
}

fn have_glibc() -> bool {
    if !machine::need("iconv") {
        return false;
    }
    let version = Command::new("iconv").arg("--version").output().unwrap().stdout;
    let is_glibc = String::from_utf8_lossy(&version)
        .to_ascii_uppercase()
        .contains("LIBC");
    if !is_glibc {
        machine::skipped("iconv is not glibc's here");
    }
    is_glibc
}

/// Each of `chars` that glibc has a code for in the encoding `name`, and that.
fn codes(name: &str, chars: &[char]) -> Vec<(char, Vec<u8>)> {
    let text: String = chars.iter().flat_map(|c| [*c, '\n']).collect();
    let theirs = iconv(name, &text).unwrap_or_else(|| panic!("{name} is not glibc's"));
    assert_eq!(theirs.len(), chars.len(), "{name}");
    let codes = chars.iter().copied().zip(theirs);
    codes.filter(|(_, code)| !code.is_empty()).collect()
}

fn compare(name: &str, chars: &[char]) {
    let theirs = codes(name, chars);
    match find(name) {
        Some(Encoding::Single(table)) => {
            // These, and no others: whatever is not in the table is left.
            let text: String = theirs.iter().flat_map(|(c, _)| [*c, '\n']).collect();
            let codes: Vec<u8> = theirs
                .into_iter()
                .flat_map(|(_, code)| [code, vec![b'\n']].concat())
                .collect();
            assert_eq!(encode(text.as_bytes(), name).as_ref(), Ok(&codes), "{name}");
            let others = table
                .chars()
                .filter(|c| chars.contains(c) && *c != char::REPLACEMENT_CHARACTER);
            let lost: Vec<char> = others.filter(|c| !text.contains(*c)).collect();
            assert!(lost.is_empty(), "{name}: {lost:?}");
        }
        Some(Encoding::Double(double)) => {
            let mut theirs = theirs.into_iter().peekable();
            let mut same = 0;
            for c in chars {
                let theirs = theirs.next_if(|(other, _)| other == c).map(|(_, code)| code);
                if let Ok(mut ours) = double.encode(&format!("{c}\n")) {
                    ours.pop();
                    same += 1;
                    assert_eq!(Some(ours), theirs, "{name}: {c:?} {:04X}", u32::from(*c));
                }
            }
            assert!(same >= 16, "{name}: {same}");
        }
        _ => panic!("{name} is not known"),
    }
}

/// All encodings of bytes, with the characters up to U+FFFF, and some above; then the last of their other names, with fewer.
/// With GITSOCKET_ALL_CHARACTERS set: all characters, and all names.
#[test]
fn codes_are_those_of_glibc() {
    if !have_glibc() {
        return;
    }
    let is_thorough = std::env::var_os("GITSOCKET_ALL_CHARACTERS").is_some();
    let highest = if is_thorough { '\u{10ffff}' } else { '\u{ffff}' };
    // What a table has not is left, whatever it is, but for what glibc leaves out on purpose.
    for (_, table) in tables::TABLES {
        assert_eq!(single("a\u{10ffff}", table), None);
        assert_eq!(single("a\u{e0041}", table), Some(b"a".to_vec()));
    }
    let some = "😀\u{20087}\u{20089}\u{200cc}\u{215d7}\u{2298f}\u{241fe}\u{e0000}\u{e0041}\u{e007f}\u{e0080}\u{10ffff}";
    let mut all: Vec<char> = ('\0'..=highest)
        .chain(some.chars())
        .filter(|c| *c != '\n')
        .collect();
    all.sort_unstable();
    // A part of them, another one each time, and all that are in tables.
    let part = fastrand::Rng::with_seed(machine::seed()).usize(..8);
    let mut some: Vec<char> = all.iter().copied().skip(part).step_by(8).collect();
    let tables = tables::TABLES.iter().flat_map(|(_, table)| table.chars());
    some.extend(tables.chain('\0'..='\u{ff}').filter(|c| *c != '\n'));
    some.sort_unstable();
    some.dedup();
    let few: Vec<char> = ('\0'..='\u{2ff}')
        .chain('\u{4e00}'..='\u{4eff}')
        .filter(|c| *c != '\n')
        .collect();
    let all = if is_thorough { all } else { some };
    let singles = tables::TABLES.iter().map(|(names, _)| *names);
    for names in singles.chain(double::ALL.iter().map(|double| double.names)) {
        let (first, others) = names.split_once(' ').unwrap_or((names, ""));
        compare(first, &all);
        let others = others.split_terminator(' ').rev();
        for name in others.take(if is_thorough { usize::MAX } else { 1 }) {
            compare(name, &few);
        }
    }
}

#[test]
fn names_are_those_of_glibc() {
    if !have_glibc() {
        return;
    }
    let listed = Command::new("iconv").arg("-l").output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    let names = listed.lines().map(|line| line.trim().trim_end_matches("//"));
    let mut count = 0;
    for name in names.filter(|name| !name.is_empty()) {
        count += 1;
        if is_utf8(name) {
            continue;
        }
        let ours = encode("aä€".as_bytes(), name);
        match ours {
            Err(Unencoded::Refused(_)) => {}
            Err(Unencoded::Left) if find(name).is_some() => {}
            Err(Unencoded::Left) => panic!("{name} is known to glibc"),
            Ok(_)
                if is_utf8(name) || matches!(find(name), Some(Encoding::Single(_) | Encoding::Double(_))) => {
            }
            Ok(ours) => assert_eq!(ours, whole(name, "aä€"), "{name}"),
        }
    }
    assert!(count > 1000, "{count}");
}

fn whole(name: &str, text: &str) -> Vec<u8> {
    let mut iconv = Command::new("iconv");
    let iconv = iconv
        .args(["-f", "UTF-8", "-t", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut iconv = iconv.spawn().unwrap();
    iconv.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    iconv.wait_with_output().unwrap().stdout
}
