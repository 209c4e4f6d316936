//! Borderless tables in the manner of kubectl: the same on a terminal of any width and in a pipe.

use std::fmt::Display;

use comfy_table::{Table, presets};

/// Header and rows; every line ends with a newline.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A value, or kubectl's sign for none.
pub(crate) fn dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
