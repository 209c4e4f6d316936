//! A namespace with an operator, somebody who types kubectl, and the transcript of what they see. It refuses to know the story.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::cluster::{Answer, User};
use testkit::process::Process;
use testkit::replica::{self, Mounted};

use crate::installation::{Installation, SOON, until};
use testkit::masks;

/// The columns that tell a time.
const TIMES: [&str; 4] = ["AGE", "EXPIRES", "RENEWS", "LAST SEEN"];

/// The stage, and what was written down so far.
pub(super) struct Scene {
    pub(super) installation: Installation,
    story: String,
    told: usize,
    scratch: TempDir,
}

impl Scene {
    /// An empty namespace with an operator.
    pub(super) async fn begin() -> Self {
        let mut installation = Installation::empty().await;
        installation.start().await;
        Self {
            installation,
            story: String::new(),
            told: 0,
            scratch: tempfile::tempdir().unwrap(),
        }
    }

    fn kubectl(&self, args: &[&str], input: Option<&str>) -> Answer {
        let cluster = self.installation.cluster;
        let all = [&["-n", &self.installation.namespace], args].concat();
        tokio::task::block_in_place(|| match input {
            Some(input) => cluster.kubectl_with_input(User::Editor, &all, input),
            // Those who describe may read events, too.
            None => cluster.kubectl_as(User::Admin, &all),
        })
    }

    /// `kubectl apply`.
    pub(super) async fn apply(&self, yaml: &str) {
        self.kubectl(&["apply", "-f", "-"], Some(yaml)).ok();
    }

    /// `kubectl patch`.
    pub(super) async fn change(&self, object: &str, patch: &str) {
        self.kubectl(&["patch", object, "--type=merge", "-p", patch], None).ok();
    }

    /// `kubectl delete`.
    pub(super) async fn delete(&self, object: &str) {
        self.kubectl(&["delete", object], None).ok();
    }

    /// So many hours pass in the database, for the pod's heartbeat too; then somebody asks for a look at the token.
    pub(super) async fn later(&self, hours: i64) {
        let ms = hours * 3_600_000;
        let sql = format!(
            "UPDATE replicas SET seen_at = seen_at + {ms};
             CREATE OR REPLACE VIEW clock AS
                SELECT CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) * 1000) AS BIGINT) + {ms} AS now_ms"
        );
        tokio::task::block_in_place(|| self.installation.database.execute(&sql));
        self.change("wtok/app", r#"{"metadata":{"annotations":{"llm-proxy.dev/reconcile-at":"1"}}}"#)
            .await;
    }

    /// Waits until `Ready` of each object, such as `wtok/app True Issued`, is as wanted and speaks of its present spec.
    pub(super) async fn stands(&self, wanted: &[String]) {
        for line in wanted {
            let (object, ready) = line.split_once(' ').unwrap();
            let start = Instant::now();
            loop {
                let object: Value = serde_json::from_str(&self.kubectl(&["get", object, "-o", "json"], None).ok()).unwrap();
                let status = &object["status"];
                let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                let found = conditions.iter().find(|condition| condition["type"] == "Ready");
                let stands = found.map(|found| format!("{} {}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap()));
                if stands.as_deref() == Some(ready) && status["observedGeneration"] == object["metadata"]["generation"] {
                    break;
                }
                assert!(start.elapsed() < SOON, "{line} is not reached: {status:#}\n{}", self.story);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// A pod of the fleet starts, as its node would have it.
    pub(super) async fn pod(&self) -> Process {
        let installation = &self.installation;
        let text = async |name: &str, key: &str| {
            let secret = installation.secret(name).await.unwrap();
            String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
        };
        let mounted = Mounted {
            database_url: installation.database.url(),
            encryption_key: text("main-encryption", "key").await,
            management_token: text("main-management", "token").await,
        };
        let claim = format!("{}/{}/main", installation.options().cluster_id.unwrap(), installation.namespace);
        until("the Deployment has its pod", SOON, async || {
            tokio::task::block_in_place(|| installation.cluster.set_pods_ready(&installation.namespace, true)) == 1
        })
        .await;
        tokio::task::block_in_place(|| replica::start(self.scratch.path(), &claim, &mounted, &[]))
    }

    /// Writes down a heading, the tables, and the events since the last time, of which there are so many.
    pub(super) async fn shows(&mut self, heading: &str, events: usize) {
        let mut fresh = self.events();
        let start = Instant::now();
        while fresh.len() != self.told + events {
            let lines: Vec<_> = fresh.iter().map(Event::line).collect();
            assert!(
                start.elapsed() < SOON,
                "{heading} {events} more events are not told: {lines:#?}\n{}",
                self.story
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
            fresh = self.events();
        }
        let tables = self.kubectl(&["get", "llmpx,llmproj,wtok", "-o", "wide"], None).ok();
        let _ = writeln!(self.story, "# {heading}\n\n$ kubectl get llmpx,llmproj,wtok -o wide");
        for table in tables.split("\n\n") {
            self.story.push_str(&masks::table(table, &TIMES, |cell| self.mask(cell)));
        }
        let mut told: Vec<&Event> = fresh[self.told..].iter().collect();
        // Two objects are looked at side by side: which of them speaks first is no part of the story.
        told.sort_by(|one, other| one.object.cmp(&other.object));
        for event in told {
            let _ = writeln!(self.story, "event: {}", self.mask(&event.line()));
        }
        self.story.push('\n');
        self.told = fresh.len();
    }

    /// Writes down what the API server says to a change that it does not take.
    pub(super) async fn is_refused(&mut self, heading: &str, object: &str, patch: &str) {
        let answer = self.kubectl(&["patch", object, "--type=merge", "-p", patch], None).refused();
        let _ = writeln!(
            self.story,
            "# {heading}\n\n$ kubectl patch {object} --type=merge -p '{patch}'\n{}",
            self.mask(&answer)
        );
    }

    /// The events of our kinds here, in the order in which they were told.
    fn events(&self) -> Vec<Event> {
        let list = self.kubectl(&["get", "events.events.k8s.io", "-o", "json"], None).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut events: Vec<Event> = list["items"].as_array().unwrap().iter().filter_map(Event::of).collect();
        events.sort_by(|one, other| one.at.cmp(&other.at));
        events
    }

    /// `kubectl describe` of each of the three kinds.
    pub(super) async fn described(&self) -> String {
        let text = self.kubectl(&["describe", "llmpx,llmproj,wtok", "--show-events=true"], None).ok();
        let text = masks::labelled(&self.mask(&text), &["Resource Version:"]);
        text.lines().map(|line| format!("{}\n", without_age(line).trim_end())).collect()
    }

    /// The transcript.
    pub(super) fn story(&self) -> &str {
        &self.story
    }

    fn mask(&self, text: &str) -> String {
        masks::words(&text.replace(&self.installation.namespace, "team"))
    }
}

/// An event of one of our objects.
struct Event {
    at: String,
    object: String,
    what: String,
}

impl Event {
    fn of(event: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let regarding = &event["regarding"];
        regarding["apiVersion"].as_str().filter(|version| version.starts_with("llm-proxy.dev/"))?;
        Some(Self {
            at: text(&event["eventTime"]),
            object: format!("{}/{}", text(&regarding["kind"]), text(&regarding["name"])),
            what: format!("{} {}: {}", text(&event["type"]), text(&event["reason"]), text(&event["note"])),
        })
    }

    fn line(&self) -> String {
        format!("{} {}", self.object, self.what)
    }
}

/// A line of the events that `kubectl describe` shows, without the third column, which is the age.
fn without_age(line: &str) -> String {
    let mut columns: Vec<&str> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let is_event = line.starts_with("  ") && matches!(columns.first(), Some(&"Normal" | &"Warning" | &"Type" | &"----")) && columns.len() >= 5;
    if !is_event {
        return line.to_owned();
    }
    columns[2] = if columns[0] == "Type" || columns[0] == "----" {
        columns[2]
    } else {
        "<masked>"
    };
    format!("  {}", columns.join("  "))
}
