//! What `llm-proxy status -o json` says, by the few figures that tests ask for.

use std::path::Path;

use serde_json::Value;

use crate::{manifests, program};

/// One reading.
#[derive(Clone, Debug)]
pub struct Status {
    /// Exit code of the command: 0 if every object is Ready.
    pub exit_code: Option<i32>,
    /// The document; null if the command gave none.
    pub document: Value,
    /// What it said on standard error.
    pub stderr: String,
}

/// The request quota of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Admitted and reported.
    pub used: u64,
    /// Leased to a running process.
    pub reserved: u64,
    /// Lost with killed processes.
    pub forfeited: u64,
}

impl Status {
    /// Runs the command on a data dir.
    #[must_use]
    pub fn read(data_dir: &Path) -> Self {
        let output = program::command(&["status", "-o", "json", "--data-dir"])
            .arg(data_dir)
            .output()
            .expect("llm-proxy runs");
        Self {
            exit_code: output.status.code(),
            document: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The quota of a token; `None` if the token or its limit is not there.
    #[must_use]
    pub fn quota(&self, token: &str) -> Option<Quota> {
        let token = self.token(token)?;
        Some(Quota {
            used: token["used"].as_u64()?,
            reserved: token["reserved"].as_u64()?,
            forfeited: token["forfeited"].as_u64()?,
        })
    }

    /// A token of the tests' namespace.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<&Value> {
        named(&self.document["tokens"], name)
    }

    /// An object's condition.
    #[must_use]
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Option<&Value> {
        let object = self.document["objects"]
            .as_array()?
            .iter()
            .find(|object| object["kind"] == kind && object["name"] == name)?;
        object["conditions"].as_array()?.iter().find(|found| found["type"] == condition)
    }

    /// The usage rows of a token.
    #[must_use]
    pub fn usage(&self, token: &str) -> Vec<&Value> {
        let full = format!("{}/{token}", manifests::NAMESPACE);
        self.document["usage"]
            .as_array()
            .map(|rows| rows.iter().filter(|row| row["token"] == full.as_str()).collect())
            .unwrap_or_default()
    }

    /// A figure of a token's usage, added up over its rows.
    #[must_use]
    pub fn used(&self, token: &str, figure: &str) -> u64 {
        self.usage(token).iter().filter_map(|row| row[figure].as_u64()).sum()
    }
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?
        .iter()
        .find(|item| item["namespace"] == manifests::NAMESPACE && item["name"] == name)
}
