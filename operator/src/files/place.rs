//! Where a document stands, and how a fault in it is named.
//! It refuses to know what the document declares.

use std::sync::Arc;

use super::document::Document;
use super::fault::Fault;

/// The place of one object: a document, or an item of a `v1` List in one.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The file as it was named.
    pub(super) file: Arc<str>,
    /// The file as it is recorded with its objects: absolute.
    pub(super) source: Arc<str>,
    /// The document.
    pub(super) document: Arc<Document>,
    /// The path of the object in the document: empty, or `items[3]`.
    pub(super) within: String,
}

impl Place {
    /// The line on which the object begins.
    pub(super) fn line(&self) -> usize {
        self.document.line_of(&self.within)
    }

    /// A fault in a field of the object; an empty field names the object as a whole.
    pub(super) fn fault(&self, field: &str, message: impl Into<String>) -> Fault {
        let path = if self.within.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.within)
        };
        let line = self.document.line_of(&path);
        let field = (!field.is_empty()).then(|| field.to_owned());
        Fault {
            file: self.file.to_string(),
            line: Some(line),
            field,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line())
    }
}
