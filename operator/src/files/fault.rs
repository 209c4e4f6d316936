//! One thing that is wrong in a manifest: file, line, field and what to do, in one line.
//! It refuses to know what follows from it.

use std::fmt;

/// A fault, as a person who edits the file needs it. It never holds a value from the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file as it was named, or `<stdin>`.
    pub file: String,
    /// The line, counted from 1; none if the fault is the file's as a whole.
    pub line: Option<usize>,
    /// The field as `kubectl` names it; none if the fault is the document's as a whole.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Fault {
    /// A fault of a file as a whole.
    pub(super) fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: None,
            field: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, ": {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_whatever_its_message_holds() {
        let fault = Fault {
            file: "a.yaml".to_owned(),
            line: Some(3),
            field: Some("spec.ttl".to_owned()),
            message: "must be\n  a duration".to_owned(),
        };
        assert_eq!(fault.to_string(), "a.yaml:3: spec.ttl: must be a duration");
        assert_eq!(Fault::of_file("dir", "cannot be read").to_string(), "dir: cannot be read");
    }
}
