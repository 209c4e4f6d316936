//! Prints documents of the API: as tables for people, or as they came, indented.

use serde_json::Value;

use crate::args::OutputFormat;
use crate::client::printable;
use crate::exit::Failure;
use crate::table::{dash, table};

/// Whether documents stand alone or in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The one document itself.
    One,
    /// An array of them.
    List,
}

/// The text of `documents`, which are JSON. Their JSON is the server's own: names, order and figures stay; only white space changes.
pub(super) fn print(format: OutputFormat, documents: &[String], shape: Shape, table: impl FnOnce(&[Value]) -> String) -> Result<String, Failure> {
    match format {
        OutputFormat::Json => {
            let text = match shape {
                Shape::One => documents.concat(),
                Shape::List => format!("[{}]", documents.join(",")),
            };
            Ok(indented(&text))
        }
        OutputFormat::Table => {
            let values = documents
                .iter()
                .map(|document| serde_json::from_str(document))
                .collect::<Result<Vec<Value>, _>>()
                .map_err(|error| Failure::new(format_args!("the server's answer cannot be read: {error}")))?;
            Ok(table(&values))
        }
    }
}

/// A column: its title, and the field that it shows.
pub(super) type Column = (&'static str, &'static str);

/// One row per document.
pub(super) fn rows(columns: &[Column], documents: &[Value]) -> String {
    let header: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let row = |document: &Value| columns.iter().map(|(_, field)| cell(&document[*field])).collect();
    table(&header, documents.iter().map(row))
}

/// One line per field that is there, in the manner of `name: value`.
pub(super) fn lines(fields: &[Column], document: &Value) -> String {
    let width = fields.iter().map(|(title, _)| title.len()).max().unwrap_or_default() + 2;
    fields
        .iter()
        .filter(|(_, field)| !document[*field].is_null())
        .map(|(title, field)| format!("{:width$}{}\n", format!("{title}:"), cell(&document[*field])))
        .collect()
}

/// A value as one cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => dash(None::<&str>),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => {
            let text = printable(&seconds(text));
            dash(Some(text).filter(|text| !text.is_empty()))
        }
        other => printable(&other.to_string()),
    }
}

/// An instant without the fractions of its seconds; any other text as it is.
fn seconds(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(_) => match (text.find('.'), text.rfind(['Z', 'z', '+', '-'])) {
            (Some(dot), Some(zone)) if dot < zone => format!("{}{}", &text[..dot], &text[zone..]),
            _ => text.to_owned(),
        },
        Err(_) => text.to_owned(),
    }
}

/// JSON text with two spaces per level and nothing else changed. The text must be JSON.
pub(super) fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    let mut in_text = false;
    let mut escaped = false;
    let mut after_opening = false;
    for c in text.chars() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closing = matches!(c, '}' | ']');
        if closing {
            depth = depth.saturating_sub(1);
        }
        // What is empty stays on one line.
        if after_opening != closing && (after_opening || closing) {
            new_line(&mut out, depth);
        }
        after_opening = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '{' | '[' => depth += 1,
            ',' => new_line(&mut out, depth),
            ':' => out.push(' '),
            '"' => in_text = true,
            _ => {}
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_indented_and_otherwise_untouched() {
        let text = r#"[{"z":1.50,"a":"x, {y}: \"[","n":null,"e":{},"l":[1,[]]}]"#;
        let expected = r#"[
  {
    "z": 1.50,
    "a": "x, {y}: \"[",
    "n": null,
    "e": {},
    "l": [
      1,
      []
    ]
  }
]
"#;
        assert_eq!(indented(text), expected);
        assert_eq!(indented(expected), expected);
        assert_eq!(indented(r#""a\\""#), "\"a\\\\\"\n");
        assert_eq!(indented("[]"), "[]\n");
        assert_eq!(indented(""), "");
    }

    #[test]
    fn cells_are_short_and_printable() {
        assert_eq!(cell(&json!("2026-11-21T01:16:02.638215372Z")), "2026-11-21T01:16:02Z");
        assert_eq!(cell(&json!("2026-11-21T01:16:02.6+02:00")), "2026-11-21T01:16:02+02:00");
        assert_eq!(cell(&json!("a.b")), "a.b");
        assert_eq!(cell(&json!("a\u{1b}[31m\nb")), "a [31m b");
        assert_eq!(
            (cell(&json!(null)), cell(&json!(true)), cell(&json!(7))),
            ("-".into(), "yes".into(), "7".into())
        );
    }

    #[test]
    fn fields_that_are_not_there_have_no_line() {
        let fields = [("Token", "token"), ("Max requests", "max_requests")];
        assert_eq!(lines(&fields, &json!({"token": "a"})), "Token:        a\n");
    }
}
