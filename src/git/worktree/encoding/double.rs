//! Encodings of which the web's standard has most as glibc's iconv has it: that is taken, and nothing else.

use gix::filter::plumbing::encoding::{self as web, Encoding};

/// An encoding, mostly of two bytes a character.
pub(super) struct Double {
    /// What glibc calls it.
    pub(super) names: &'static str,
    /// The web's standard.
    encoding: &'static Encoding,
    /// Whether a character's code by that standard is glibc's, too. Never asked about ASCII, which is itself.
    is_same: fn(char, &[u8]) -> bool,
}

/// All of them. A test compares each character with `iconv`, where that is.
pub(super) static ALL: [Double; 13] = [
    Double {
        names: "SJIS SHIFT-JIS SHIFT_JIS MS_KANJI CSSHIFTJIS",
        encoding: web::SHIFT_JIS,
        // Without what NEC and IBM added.
        is_same: |c, code| {
            code != [0x80] && code[0] != 0x87 && code[0] < 0xed && !matches!(c, '∥' | '－' | '～')
        },
    },
    Double {
        names: "CP932 WINDOWS-31J MS932 SJIS-OPEN SJIS-WIN CSWINDOWS31J",
        encoding: web::SHIFT_JIS,
        is_same: |_, code| code != [0x80],
    },
    Double {
        names: "EUC-JP EUCJP CSEUCPKDFMTJAPANESE OSF00030010 UJIS",
        encoding: web::EUC_JP,
        is_same: |c, code| {
            code[0] != 0xad && code[0] < 0xf9 && !matches!(c, '∥' | '－' | '～' | '￠' | '￡' | '￢')
        },
    },
    Double {
        names: "ISO-2022-JP CSISO2022JP ISO2022JP",
        encoding: web::ISO_2022_JP,
        // Without what NEC and IBM added, and what the web folds (kana of half the width). Those of JIS X 0201 (`¥`, `‾`)
        // come back to ASCII elsewhere.
        is_same: |c, code| {
            matches!(code, [0x1b, b'$', b'B', 0x21..=0x28 | 0x30..=0x78, ..])
                && !matches!(
                    c,
                    '∥' | '－' | '～' | '￠' | '￡' | '￢' | '\u{ff61}'..='\u{ff9f}'
                )
        },
    },
    Double {
        names: "GBK GB13000 CP936 MS936 WINDOWS-936",
        encoding: web::GBK,
        // Without what GB 18030 added.
        is_same: |c, code| {
            let is_new = matches!(c, '\u{1f9}' | '\u{1e3f}' | '\u{2ff0}'..='\u{2ffb}' | '\u{303e}' | '\u{fe10}'..='\u{fe19}');
            !is_private(c) && !is_new && code[0] != 0xfe
        },
    },
    Double {
        names: "GB18030",
        encoding: web::GB18030,
        is_same: |c, _| {
            !is_private(c)
                && !super::is_tag(c)
                && !matches!(
                    u32::from(c),
                    0x20087 | 0x20089 | 0x200cc | 0x215d7 | 0x2298f | 0x241fe
                )
        },
    },
    Double {
        names: "EUC-CN EUCCN GB2312 CSGB2312 CN-GB",
        encoding: web::GBK,
        is_same: |c, code| {
            let is_old = matches!(code, [0xa1..=0xa9 | 0xb0..=0xf7, 0xa1..=0xff]);
            let is_new = matches!(c, '·' | '\u{144}' | '\u{148}' | '\u{1f9}' | '\u{251}' | '\u{261}' | '\u{1e3f}'
                | '—' | 'ⅰ'..='ⅹ' | '\u{fe10}'..='\u{fe44}');
            is_old && !is_new && !is_private(c)
        },
    },
    Double {
        names: "BIG5 BIG-FIVE BIGFIVE BIG-5 CN-BIG5 CP950",
        encoding: web::BIG5,
        // Without what ETEN and Hong Kong added.
        is_same: |c, code| match code {
            [high, low] => {
                let code = u16::from_be_bytes([*high, *low]);
                matches!(code, 0xa100..=0xc6a0 | 0xc8ff..=0xf9d5) && !matches!(c, '\u{2400}'..='\u{2421}')
            }
            _ => false,
        },
    },
    Double {
        names: "BIG5-HKSCS BIG5HKSCS",
        encoding: web::BIG5,
        // Hong Kong has other codes for these, or none.
        is_same: |c, _| {
            !matches!(c, '\u{af}' | '\u{2cd}' | '\u{2027}' | '€' | '\u{2215}' | '⊕' | '⊙' | '\u{2400}'..='\u{2421}'
                | '╭'..='╰' | '╴' | '仝' | '嘅' | '廐' | '廴' | '悤' | '无' | '猪' | '癶' | '隶'
                | '\u{fe51}' | '\u{fe68}' | '／' | '＼' | '～' | '￠' | '￡' | '￣' | '￥')
        },
    },
    Double {
        names: "EUC-KR EUCKR CSEUCKR OSF0004000A",
        encoding: web::EUC_KR,
        is_same: |_, code| matches!(code, [0xa1..=0xff, 0xa1..=0xff]),
    },
    Double {
        names: "UHC MSCP949 CP949 OSF100203B5",
        encoding: web::EUC_KR,
        is_same: |_, _| true,
    },
    Double {
        names: "CP1255 MS-HEBR WINDOWS-1255",
        encoding: web::WINDOWS_1255,
        is_same: |c, _| !matches!(c, '\u{80}'..='\u{9f}' | '\u{5ba}'),
    },
    Double {
        names: "CP1258 WINDOWS-1258",
        encoding: web::WINDOWS_1258,
        is_same: |c, _| !matches!(c, '\u{80}'..='\u{9f}'),
    },
];

fn is_private(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}')
}

impl Double {
    /// `text` in this encoding, or a character of it that may have another code, or one at all, in glibc.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u8>, char> {
        let mut buffer = [0; 4];
        for c in text.chars().filter(|c| !c.is_ascii()) {
            let (code, _, is_lost) = self.encoding.encode(c.encode_utf8(&mut buffer));
            if is_lost || !(self.is_same)(c, &code) {
                return Err(c);
            }
        }
        // As a whole, since some have shifts.
        let (out, _, is_lost) = self.encoding.encode(text);
        if is_lost {
            return Err(text.chars().find(|c| SHIFTS.contains(c)).unwrap_or_default());
        }
        // git does not ask iconv to end the last one.
        Ok(out.strip_suffix(END).unwrap_or(&out).to_vec())
    }
}

/// What ISO-2022-JP does not encode of ASCII.
const SHIFTS: [char; 3] = ['\u{e}', '\u{f}', '\u{1b}'];
/// How it comes back to ASCII.
const END: &[u8] = b"\x1b(B";
