//! The API server's audit log: who asked for what, and what became of it. The oracle for "the operator writes nothing".
//! It refuses to know bodies: the log holds metadata only.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use super::{Cluster, User};
use crate::random::Random;
use crate::wait;

/// A place in the log: behind everything that was answered when it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `ResponseComplete`; a watch has a line `ResponseStarted` before that.
    pub stage: String,
    /// The user's name, for instance `operator`.
    pub user: String,
    /// What the program calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The API group; empty for Kubernetes' first one.
    pub group: String,
    /// The plural, such as `secrets`; empty for what is no resource.
    pub resource: String,
    /// `status`, `scale` or nothing.
    pub subresource: String,
    /// The namespace, if the object has one.
    pub namespace: String,
    /// The object's name, as far as the request names it: a `create` often does not.
    pub name: String,
    /// The answer's HTTP status; 0 if there was none.
    pub code: u16,
    /// When the request arrived.
    pub received: Timestamp,
    /// When this stage was reached.
    pub at: Timestamp,
}

impl Entry {
    /// Whether it asks for a change that would last.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let verb = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        verb && self.stage == "ResponseComplete" && !self.uri.contains("dryRun=All")
    }

    /// `verb resource/subresource namespace/name code`, for messages.
    #[must_use]
    pub fn line(&self) -> String {
        let separator = if self.subresource.is_empty() { "" } else { "/" };
        format!(
            "{} {}{separator}{} {}/{} {}",
            self.verb, self.resource, self.subresource, self.namespace, self.name, self.code
        )
    }
}

/// The line as the API server writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: Identity,
    impersonated_user: Option<Identity>,
    user_agent: Option<String>,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        let object = line.object_ref.unwrap_or_default();
        Self {
            stage: line.stage,
            user: line.impersonated_user.unwrap_or(line.user).username,
            user_agent: line.user_agent.unwrap_or_default(),
            verb: line.verb,
            uri: line.uri,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: line.response_status.map_or(0, |status| status.code),
            received: line.request_received_timestamp,
            at: line.stage_timestamp,
        }
    }
}

impl Cluster {
    /// Sets a mark behind everything that was answered so far. The API server must run.
    ///
    /// # Panics
    /// If the log does not show the mark within 20 s; on a foreign cluster, whose log is out of reach.
    #[must_use]
    pub fn audit_mark(&self) -> Mark {
        let path = self.own_folder("reads the audit log").join("audit.log");
        self.marked_from(Mark(std::fs::metadata(path).map_or(0, |log| log.len())))
    }

    /// What was logged from a mark until now.
    ///
    /// # Panics
    /// As [`Cluster::audit_mark`].
    #[must_use]
    pub fn audit_since(&self, from: Mark) -> Vec<Entry> {
        self.audit_between(from, self.marked_from(from))
    }

    /// What was logged between two marks, oldest first, without the marks themselves.
    ///
    /// # Panics
    /// If a line is not what it should be.
    #[must_use]
    pub fn audit_between(&self, from: Mark, to: Mark) -> Vec<Entry> {
        let text = self.audit_text(from.0, Some(to.0));
        let entries = text
            .lines()
            .map(|line| Entry::from(serde_json::from_str::<Line>(line).expect("a line of the audit log")));
        entries.filter(|entry| !entry.uri.contains(MARK)).collect()
    }

    /// The writes of a user since a mark, refused ones (409, 422 …) included.
    ///
    /// # Panics
    /// As [`Cluster::audit_mark`].
    #[must_use]
    pub fn writes_since(&self, user: User, from: Mark) -> Vec<Entry> {
        let mut entries = self.audit_since(from);
        entries.retain(|entry| entry.user == user.name() && entry.is_write());
        entries
    }

    /// Asks for something that does not exist, and waits until that question stands in the log.
    fn marked_from(&self, from: Mark) -> Mark {
        let name = format!("{MARK}{}", Random::fresh().base62(16).to_ascii_lowercase());
        let uri = format!("/api/v1/namespaces/default/configmaps/{name}");
        let config = self.config(User::Admin);
        super::blocking(async move {
            let client = Client::try_from(config).expect("a client");
            let request = http::Request::get(uri).body(Vec::new()).expect("a request");
            // 404, unless the API server does not run; that shows below.
            let _ = client.request_text(request).await;
        });
        // A long log is not read again at each look.
        let mut seen = from.0;
        wait::some("the mark stands in the audit log", wait::SOON, || {
            let text = self.audit_text(seen, None);
            let mut end = seen;
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                end += line.len() as u64;
                if line.contains(&name) {
                    return Some(Mark(end));
                }
            }
            seen = end;
            None
        })
    }

    /// The log from one offset to another, or to its end.
    fn audit_text(&self, from: u64, to: Option<u64>) -> String {
        let path = self.own_folder("reads the audit log").join("audit.log");
        let Ok(mut file) = File::open(path) else { return String::new() };
        file.seek(SeekFrom::Start(from)).expect("the audit log");
        let mut bytes = Vec::new();
        let limit = to.map_or(u64::MAX, |to| to.saturating_sub(from));
        file.take(limit).read_to_end(&mut bytes).expect("the audit log");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// How a mark's name begins.
const MARK: &str = "audit-mark-";
