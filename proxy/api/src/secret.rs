//! A text that must not be seen: provider keys on their way in, fresh tokens on their way out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret in a request or an answer. It is written into JSON as it is, and never into `Debug` output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a clear text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The clear text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The clear text as a value of its own.
    #[must_use]
    pub fn into_inner(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_as_json_and_not_for_debugging() {
        let secret = Secret::new("sk-clear");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""sk-clear""#);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(serde_json::from_str::<Secret>(r#""sk-clear""#).unwrap(), secret);
    }
}
