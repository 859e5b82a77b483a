//! Tables that read the same on a terminal and as markdown, and the numbers in them.

use std::fmt;

use unicode_width::UnicodeWidthStr;

/// A table of text cells. `Display` writes it as a padded markdown table below its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// One line above the table; none if empty.
    pub title: String,
    /// The columns, left to right.
    pub columns: Vec<Column>,
    /// Cells, row by row. A row shorter than `columns` is filled up with empty cells; cells beyond the
    /// last column get a column without a name.
    pub rows: Vec<Vec<String>>,
}

/// The head of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What the head says.
    pub name: String,
    /// The side on which the cells are flush.
    pub align: Align,
}

/// The side on which a column's cells are flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Left, for words.
    Left,
    /// Right, for numbers.
    Right,
}

impl Column {
    /// A column of words.
    pub fn left(name: impl Into<String>) -> Self {
        Self { name: name.into(), align: Align::Left }
    }

    /// A column of numbers.
    pub fn right(name: impl Into<String>) -> Self {
        Self { name: name.into(), align: Align::Right }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.title.is_empty() {
            writeln!(f, "{}\n", one_line(&self.title))?;
        }
        let count = self.rows.iter().map(Vec::len).fold(self.columns.len(), usize::max);
        if count == 0 {
            return Ok(());
        }
        let mut columns = self.columns.clone();
        columns.resize_with(count, || Column::left(""));
        let head: Vec<String> = columns.iter().map(|column| escaped(&column.name)).collect();
        let filled = |row: &Vec<String>| {
            let mut cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
            cells.resize(count, String::new());
            cells
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(filled).collect();

        // Some readers of markdown want three characters in the rule below the head.
        let mut widths = vec![3; count];
        for row in rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            for ((cell, column), &width) in cells.iter().zip(&columns).zip(&widths) {
                let pad = " ".repeat(width - cell.width());
                match column.align {
                    Align::Left => write!(f, "| {cell}{pad} ")?,
                    Align::Right => write!(f, "| {pad}{cell} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &head)?;
        let rule = |(column, &width): (&Column, &usize)| match column.align {
            Align::Left => "-".repeat(width),
            Align::Right => "-".repeat(width - 1) + ":",
        };
        line(f, &columns.iter().zip(&widths).map(rule).collect::<Vec<_>>())?;
        rows.iter().try_for_each(|row| line(f, row))
    }
}

/// `text` without line breaks and other control characters, which would break a table.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn escaped(cell: &str) -> String {
    one_line(cell).replace('|', r"\|")
}

/// `value` at 4 significant digits: `0.7271`, `123.5`; in scientific form below 1e-3 and from 1e4 in
/// magnitude (`4.344e-4`).
pub fn format_number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.3e}");
    // The exponent after rounding: 9.9996 is 10.00, not 10.000.
    match scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()) {
        Some(exponent @ -3..=3) => format!("{value:.*}", (3 - exponent) as usize),
        _ => scientific, // NaN and infinities among them
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers() {
        let check = |value: f64, want: &str| assert_eq!(format_number(value), want);
        check(0.0, "0");
        check(-0.0, "0");
        check(0.72708333, "0.7271");
        check(-1.5, "-1.500");
        check(123.456, "123.5");
        check(9.99996, "10.00");
        check(9999.4, "9999");
        check(9999.6, "1.000e4");
        check(0.001536439, "0.001536");
        check(0.000999996, "0.001000");
        check(0.00043438349, "4.344e-4");
        check(-2.3e-308, "-2.300e-308");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-inf");
    }

    #[test]
    fn table() {
        let table = Table {
            title: "widths".to_owned(),
            columns: vec![Column::left("name"), Column::right("x")],
            rows: vec![
                vec!["a ± b".to_owned(), "1".to_owned()],
                vec!["日本".to_owned(), "–".to_owned()],
                vec!["two\nlines | \u{1b}pipe".to_owned()],
                vec!["c".to_owned(), "12345".to_owned(), "extra".to_owned()],
            ],
        };
        let want = r"
widths

| name              |     x |       |
| ----------------- | ----: | ----- |
| a ± b             |     1 |       |
| 日本              |     – |       |
| two lines \| pipe |       |       |
| c                 | 12345 | extra |
";
        assert_eq!(table.to_string(), want.trim_start());
    }

    #[test]
    fn a_table_of_nothing_is_its_title() {
        let table = Table { title: "empty".to_owned(), columns: Vec::new(), rows: Vec::new() };
        assert_eq!(table.to_string(), "empty\n\n");
    }

    proptest! {
        #[test]
        fn a_number_is_read_back_to_4_digits(value in prop::num::f64::NORMAL) {
            prop_assume!(value.abs() < 1e308); // rounded up, the largest are no f64 any more
            let text = format_number(value);
            let back: f64 = text.parse().unwrap();
            prop_assert!((back - value).abs() <= 5.001e-4 * value.abs(), "{}", text);
            let digits = text.split('e').next().unwrap().chars().filter(char::is_ascii_digit).collect::<String>();
            prop_assert_eq!(digits.trim_start_matches('0').len(), 4, "{}", text);
        }

        #[test]
        fn every_line_is_as_wide(rows in prop::collection::vec(prop::collection::vec(".{0,12}", 0..4), 0..5)) {
            let count = rows.len();
            let columns = vec![Column::left("words"), Column::right("numbers")];
            let text = Table { title: String::new(), columns, rows }.to_string();
            let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
            prop_assert_eq!(widths.len(), count + 2);
            prop_assert!(widths.iter().all(|&width| width == widths[0]), "{}", text);
        }
    }
}
