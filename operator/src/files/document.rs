//! A file's text cut into YAML documents, so that a broken one takes only itself along. A document that is JSON is read as JSON, whose escapes YAML
//! does not know. It refuses to know what the documents declare.

use std::fmt;

use serde_json::Value;

use super::locate;

/// Brackets that may be open at once: what JSON parsers take, and far more than a manifest needs.
const MAX_NESTING: usize = 128;

/// One document of a file.
#[derive(Clone)]
pub(super) struct Document {
    /// The line on which its content begins, counted from 1.
    pub(super) line: usize,
    /// How many lines stand before its text in the file.
    before: usize,
    text: String,
}

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// What the parser says; it speaks of syntax and of keys, never of values.
    pub(super) message: String,
}

/// A document may be a Secret: its text is never shown.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Document {
    /// The line, counted from 1 in the file, on which a field stands; of its nearest ancestor that is there, if it is not.
    pub(super) fn line_of(&self, path: &str) -> usize {
        locate::line_of(&self.text, path).map_or(self.line, |line| self.before + line)
    }

    /// Reads it.
    pub(super) fn value(&self) -> Result<Value, Broken> {
        let broken = |line: Option<usize>, why: &str| Broken {
            line: line.map_or(self.line, |line| self.before + line),
            message: format!("broken YAML: {why}"),
        };
        if let Some(line) = too_deep(&self.text) {
            return Err(broken(Some(line), &format!("brackets nest deeper than {MAX_NESTING} levels")));
        }
        let twice = || locate::line_of_repeated_key(&self.text);
        if let Some(json) = locate::as_json(&self.text)
            && let Ok(value) = serde_json::from_str(json)
        {
            // The reader takes the last of several.
            return match twice() {
                None => Ok(value),
                Some((line, key)) => Err(broken(Some(line), &format!("duplicate entry with key {key:?}"))),
            };
        }
        let read = serde_yaml::from_str(&self.text).and_then(|mut yaml: serde_yaml::Value| {
            yaml.apply_merge()?;
            Ok(yaml)
        });
        let yaml = read.map_err(|error| {
            let why = error.to_string();
            let line = error.location().map(|location| location.line());
            // The reader knows only where the mapping begins.
            let own = if why.contains("duplicate entry") { twice() } else { None };
            broken(own.map(|(line, _)| line).or(line), &at_the_files_lines(&why, self.before))
        })?;
        serde_json::to_value(yaml).map_err(|_| broken(None, "every key must be a string, and values must be those of JSON"))
    }
}

/// The parser's message with the lines that it names counted from the beginning of the file.
fn at_the_files_lines(message: &str, before: usize) -> String {
    const LINE: &str = "at line ";
    let mut parts = message.split(LINE);
    let mut shifted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        shifted.push_str(LINE);
        match number.parse::<usize>() {
            Ok(line) => shifted.push_str(&(before + line).to_string()),
            Err(_) => shifted.push_str(number),
        }
        shifted.push_str(rest);
    }
    shifted
}

/// The line on which unquoted brackets nest too deeply. The parser would refuse them as well, but only after a time that grows with the square of
/// their number, and meanwhile no other file would be read. Brackets in plain text count too, which no manifest minds.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut line) = (0usize, 1usize);
    let mut quote: Option<u8> = None;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\n', _) => line += 1,
            // What follows a backslash in double quotes ends nothing.
            (b'\\', Some(b'"')) => line += usize::from(bytes.next() == Some(b'\n')),
            (byte, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => {}
            // An apostrophe inside a word is no quote; a quote stands where a value may begin, and brackets only matter there.
            (b'"' | b'\'', None) if depth > 0 => quote = Some(byte),
            (b'[' | b'{', None) => depth += 1,
            (b']' | b'}', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Some(line);
        }
    }
    None
}

/// Cuts a file into its documents; those that hold nothing but comments are left out. A line that begins with `---` or `...` cannot stand inside
/// a document (YAML 1.2, §9.1.2), so cutting needs no parser.
pub(super) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "---") || is_marker(line, "...") {
            found.extend(open.take().and_then(close));
        }
        if !is_marker(line, "...") {
            open.get_or_insert_with(|| (index, String::new())).1.push_str(line);
        }
    }
    found.extend(open.take().and_then(close));
    found
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn close((before, text): (usize, String)) -> Option<Document> {
    let is_content = |line: &str| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        !line.is_empty() && !line.starts_with('#')
    };
    let first = text.lines().position(is_content)?;
    Some(Document {
        line: before + first + 1,
        before,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_that_nest_too_deeply_are_refused_before_they_are_parsed() {
        let deep = format!("a: 1\nb: {}", "{\"a\":".repeat(60_000));
        let broken = documents(&deep)[0].value().expect_err("refused");
        assert_eq!(broken.line, 2);
        assert!(broken.message.contains("128 levels"), "{}", broken.message);
    }

    #[test]
    fn brackets_in_quotes_nest_nothing() {
        let quoted = format!("{{a: \"{0}\\\"{0}\", b: '{0}'}}", "[".repeat(200));
        assert!(documents(&quoted)[0].value().is_ok());
    }

    #[test]
    fn documents_begin_where_their_content_begins() {
        let text = "# head\n---\n\na: 1\n---\n# nothing\n--- # more\nb: 2\n...\n---\nc: |\n  ---\n  text\n";
        let lines: Vec<usize> = documents(text).iter().map(|document| document.line).collect();
        assert_eq!(lines, [4, 8, 11]);
        assert_eq!(documents(text)[2].value().unwrap()["c"], "---\ntext\n");
        assert!(documents("# only\n\n# comments\n---\n").is_empty());
        assert!(documents("").is_empty());
    }

    #[test]
    fn a_broken_document_is_named_by_the_files_line_and_leaves_the_others_whole() {
        let found = documents("a: 1\n---\nb: [1,\nc: 2\n---\nd: 4\n");
        assert_eq!(found[0].value().unwrap()["a"], 1);
        assert_eq!(found[2].value().unwrap()["d"], 4);
        let broken = found[1].value().unwrap_err();
        assert!(
            broken.line >= 3 && broken.line <= 5 && broken.message.starts_with("broken YAML: "),
            "{broken:?}"
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_broken() {
        let broken = documents("---\nspec:\n  ttl: 1h\n  ttl: 2h\n")[0].value().unwrap_err();
        assert!(broken.message.contains("duplicate entry") && broken.message.contains("ttl"), "{broken:?}");
        assert_eq!(broken.line, 4, "the second one's own line");
        let broken = documents("a: 1\n---\n{\"a\": 1,\n \"b\": {\"c\": 1,\n\"c\": 2}}\n")[1]
            .value()
            .unwrap_err();
        assert!(broken.message.contains("duplicate entry") && broken.line == 5, "{broken:?}");
    }

    #[test]
    fn json_escapes_are_read_as_json_has_them() {
        let escaped = "a: 1\n---\n{\"a\": \"\\ud83d\\ude00\",\n \"b\": 1}\n";
        let found = documents(escaped);
        assert_eq!(found[1].value().unwrap()["a"], "\u{1f600}");
        assert_eq!(found[1].line_of("b"), 4);
        assert_eq!(
            documents("{a: 1, b: [2]}")[0].value().unwrap()["b"][0],
            2,
            "a flow mapping is no JSON, but YAML"
        );
    }

    #[test]
    fn positions_are_the_files_in_every_document() {
        let found = documents("a: 1\n---\nb:\n  c: [1,\n---\nd:\n  e: 4\n");
        let broken = found[1].value().unwrap_err();
        assert!(
            broken.line >= 3 && broken.message.contains("line 5") || broken.message.contains("line 4"),
            "{broken:?}"
        );
        assert_eq!((found[2].line_of("d.e"), found[2].line_of("d.x"), found[2].line_of("x")), (7, 6, 6));
    }

    #[test]
    fn ten_thousand_documents_are_cut_and_read_in_time_that_grows_with_their_number() {
        let one =
            "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {name: t, namespace: n}\nspec: {projectRef: {name: p}, ttl: 1h}\n";
        let seconds = |count: usize| {
            let text = vec![one; count].join("---\n");
            let began = std::time::Instant::now();
            assert!(documents(&text).iter().all(|document| document.value().is_ok()));
            began.elapsed().as_secs_f64()
        };
        let (few, many) = (seconds(1_000), seconds(10_000));
        assert!(many < 40.0 * few.max(0.001), "{few} s for a tenth, {many} s for all");
    }

    #[test]
    fn json_is_yaml_and_windows_files_are_read_as_well() {
        assert_eq!(documents("{\n\t\"a\": {\"b\": [1]}\n}\n")[0].value().unwrap()["a"]["b"][0], 1);
        assert_eq!(documents("\u{feff}a: 1\r\n---\r\nb: 2\r\n").len(), 2);
        assert_eq!(documents("base: &b {x: 1}\nuse:\n  <<: *b\n")[0].value().unwrap()["use"]["x"], 1);
        assert!(documents("? [a, b]\n: 1\n")[0].value().is_err());
    }
}
