//! Prometheus' text format, version 0.0.4: families of samples.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::{Display, Write as _};

/// Prometheus 3 accepts no other Content-Type for this format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text, family after family.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// A family that is being written.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Text {
    /// Begin the family `name` with a line of `help`.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// A family of one number without labels.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// A histogram. `bounds` are upper bounds in milliseconds; `counts` has one more entry, without a bound. `us` is the sum of
    /// the measured times in microseconds.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[u64], counts: &[u64], us: u64) {
        let mut so_far = 0;
        let bounds = bounds.iter().map(|ms| (*ms as f64 / 1e3).to_string());
        for (count, bound) in counts.iter().zip(bounds.chain(["+Inf".into()])) {
            so_far += count;
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.line("_bucket", &labels, so_far);
        }
        self.line("_sum", labels, seconds(us));
        self.line("_count", labels, so_far);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut *self.text;
        *text += self.name;
        *text += suffix;
        for (at, (name, value)) in labels.iter().enumerate() {
            *text += if at == 0 { "{" } else { "," };
            *text += name;
            *text += "=\"";
            escape(value, text);
            *text += "\"";
        }
        if !labels.is_empty() {
            *text += "}";
        }
        // Writing to a string cannot fail.
        writeln!(text, " {value}").ok();
    }
}

fn escape(value: &str, into: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => *into += "\\\\",
            '"' => *into += "\\\"",
            '\n' => *into += "\\n",
            c => into.push(c),
        }
    }
}

/// Microseconds in Prometheus' unit.
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        let mut text = Text::default();
        text.one("a_up", Kind::Gauge, "whether it is.", u8::from(true));
        let mut family = text.family("b_total", Kind::Counter, "how many.");
        family.sample(&[("path", "/a\"b\\c\nd{}"), ("x", "")], u64::MAX);
        let mut family = text.family("c_seconds", Kind::Histogram, "how long.");
        family.histogram(&[("of", "x")], &[10, 1_000, 120_000], &[1, 0, 2, 3], 1_500_000);
        let lines = [
            "# HELP a_up whether it is.",
            "# TYPE a_up gauge",
            "a_up 1",
            "# HELP b_total how many.",
            "# TYPE b_total counter",
            r#"b_total{path="/a\"b\\c\nd{}",x=""} 18446744073709551615"#,
            "# HELP c_seconds how long.",
            "# TYPE c_seconds histogram",
            r#"c_seconds_bucket{of="x",le="0.01"} 1"#,
            r#"c_seconds_bucket{of="x",le="1"} 1"#,
            r#"c_seconds_bucket{of="x",le="120"} 3"#,
            r#"c_seconds_bucket{of="x",le="+Inf"} 6"#,
            r#"c_seconds_sum{of="x"} 1.5"#,
            r#"c_seconds_count{of="x"} 6"#,
        ];
        assert_eq!(text.finish().lines().collect::<Vec<_>>(), lines);
    }
}
