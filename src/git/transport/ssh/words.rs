//! What a host says for people, on its standard error or before the login.

use crate::base::{
    fault::one_line,
    report::{Report, Reporter},
};

/// Each line is reported as it comes,
/// and remembered up to a limit.
#[derive(Debug)]
pub(super) struct Words {
    report: Reporter,
    line: Vec<u8>,
    said: String,
    lines: usize,
}

impl Words {
    /// A longer line is cut, in bytes.
    const MAX_LINE: usize = 1000;
    /// How many lines are reported.
    const MAX_LINES: usize = 200;
    /// How much is remembered, in bytes.
    const MAX_SAID: usize = 1000;

    pub(super) fn new(report: Reporter) -> Self {
        Self {
            report,
            line: Vec::new(),
            said: String::new(),
            lines: 0,
        }
    }

    /// Hear `bytes`, which may end anywhere in a line.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.finish(),
                _ if self.line.len() < Self::MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// A line ends here.
    pub(super) fn finish(&mut self) {
        let line = one_line(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        let text = line.trim_end();
        if text.is_empty() {
            return;
        }
        self.lines += 1;
        if self.said.len() < Self::MAX_SAID {
            let gap = if self.said.is_empty() { "" } else { " " };
            self.said.push_str(gap);
            self.said.push_str(text.trim_start());
        }
        if self.lines <= Self::MAX_LINES {
            self.report.emit(Report::Remote { line: text.into() });
        }
    }

    /// All that was said, in one line.
    pub(super) fn said(&self) -> String {
        self.said[..self.said.floor_char_boundary(Self::MAX_SAID)].into()
    }
}
