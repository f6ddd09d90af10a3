//! Rows for a terminal: columns as wide as their widest cell, and lines that end at its edge.

#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    /// The size of the terminal on standard output, if there is one.
    pub(super) fn of_output() -> Option<Self> {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        let given = |cells: u16| match cells {
            // The terminal does not know.
            0 => usize::MAX,
            cells => cells.into(),
        };
        Some(Self {
            columns: given(size.ws_col),
            rows: given(size.ws_row),
        })
    }
}

const GAP: &str = "  ";

fn widths<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    std::array::from_fn(|column| widest(column).unwrap_or_default())
}

/// Where the last column of `rows` begins.
pub(super) fn last_column<const N: usize>(rows: &[[String; N]]) -> usize {
    let before = widths(rows).into_iter().take(N - 1);
    before
        .filter(|width| *width > 0)
        .map(|width| width + GAP.len())
        .sum()
}

/// A line for each of `rows`, none longer than `width`.
pub(super) fn lines<const N: usize>(rows: &[[String; N]], width: usize) -> Vec<String> {
    let widths = widths(rows);
    let line = |row: &[String; N]| {
        // A column in which nothing stands takes no room.
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join(GAP);
        cut(line.trim_end(), width)
    };
    rows.iter().map(line).collect()
}

/// `text`, of at most `width` characters.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().nth(width).is_none() {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}
