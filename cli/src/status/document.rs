//! What `llm-proxy status` knows, as one JSON document. Its field names are what scripts read: they are only ever added to.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use store::{Claim, DbTime, FileObject, Fleet, ProjectView, QuotaView, RevisionState, RevisionView, TokenState, TokenView, UsageRow};

use crate::exit::Failure;

/// The whole document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    /// Who owns the database: `standalone/<namespace>/<ProxyConfig>`.
    pub(crate) fleet: String,
    /// Whether there are objects and all of them are Ready.
    pub(crate) ready: bool,
    /// The database's clock at reading time.
    pub(crate) time: String,
    /// Every object that is served, by kind, namespace and name.
    pub(crate) objects: Vec<Object>,
    /// The issued tokens, by namespace and name.
    pub(crate) tokens: Vec<Token>,
    /// Summed over all days, per token, model and provider.
    pub(crate) usage: Vec<Usage>,
}

/// An object of the manifests.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Object {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The file it was last read from.
    pub(crate) source: String,
    pub(crate) ready: bool,
    /// As Kubernetes writes them: type, status, reason, message, lastTransitionTime, observedGeneration.
    pub(crate) conditions: Vec<serde_json::Value>,
}

/// A token and what is left of it. Never its value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Token {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `<namespace>/<name>`.
    pub(crate) project: Option<String>,
    pub(crate) state: &'static str,
    /// The file that applications read; absent once revoked.
    pub(crate) env_file: Option<String>,
    /// The revision that `env_file` holds.
    pub(crate) revision: Option<i64>,
    /// The public beginning of its value.
    pub(crate) prefix: Option<String>,
    pub(crate) issued_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    /// Requests that the current period allows; absent: no limit.
    pub(crate) max_requests: Option<u64>,
    pub(crate) used: Option<u64>,
    /// Leased to a running process, and perhaps spent there already within the last second.
    pub(crate) reserved: Option<u64>,
    /// Lost to a killed process.
    pub(crate) forfeited: Option<u64>,
    pub(crate) revisions: Vec<Revision>,
}

/// One value that the token has had: those alive, and the newest ended one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Revision {
    pub(crate) revision: i64,
    pub(crate) prefix: String,
    pub(crate) state: &'static str,
    pub(crate) issued_at: String,
    pub(crate) ends_at: String,
}

/// What went through, by token, model and provider.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    /// `<namespace>/<name>`; absent for a token that is gone.
    pub(crate) token: Option<String>,
    /// `<namespace>/<name>`; absent for a project that is gone.
    pub(crate) project: Option<String>,
    pub(crate) model: String,
    pub(crate) provider: String,
    pub(crate) requests: u64,
    pub(crate) input_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) reasoning_tokens: u64,
    /// How many of the requests were booked by estimate.
    pub(crate) estimated: u64,
}

impl Document {
    /// Reads everything from the claimed database of `data_dir`.
    pub(crate) async fn read(data_dir: &Path, claim: &Claim, fleet: &Fleet) -> store::Result<Self> {
        let mut objects: Vec<Object> = fleet.file_objects().await?.into_iter().map(Object::of).collect();
        objects.sort_by(|a, b| (kind_rank(&a.kind), &a.namespace, &a.name).cmp(&(kind_rank(&b.kind), &b.namespace, &b.name)));
        let projects = fleet.projects().await?;
        let views = fleet.tokens().await?;
        let usage = sum_usage(fleet.usage().await?, &views, &projects);
        let mut tokens: Vec<Token> = views.into_iter().map(|view| Token::of(view, &projects, data_dir)).collect();
        tokens.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(Self {
            fleet: format!("{}/{}/{}", claim.cluster, claim.namespace, claim.name),
            ready: !objects.is_empty() && objects.iter().all(|object| object.ready),
            time: time(fleet.store().now().await?),
            objects,
            tokens,
            usage,
        })
    }

    /// The document as indented JSON with a newline.
    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| Failure::new(format_args!("cannot write the status as JSON: {error}")))
    }
}

impl Object {
    fn of(object: FileObject) -> Self {
        let conditions = object
            .status
            .and_then(|mut status| status.get_mut("conditions").map(serde_json::Value::take));
        let conditions = match conditions {
            Some(serde_json::Value::Array(conditions)) => conditions,
            _ => Vec::new(),
        };
        Self {
            kind: object.key.kind,
            namespace: object.key.namespace,
            name: object.key.name,
            uid: object.uid.to_string(),
            generation: object.generation,
            source: object.source,
            ready: conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
            conditions,
        }
    }

    /// The condition `Ready`, if it has been decided.
    pub(crate) fn ready_condition(&self) -> Option<&serde_json::Value> {
        self.conditions.iter().find(|condition| condition["type"] == "Ready")
    }
}

impl Token {
    fn of(view: TokenView, projects: &[ProjectView], data_dir: &Path) -> Self {
        let current = view.revisions.iter().rev().find(|revision| revision.state == RevisionState::Active);
        let env_file = current.map(|_| {
            data_dir
                .join("secrets")
                .join(format!("{}.{}.env", view.owner.namespace, view.secret_name))
                .display()
                .to_string()
        });
        let figure = |of: fn(&QuotaView) -> u64| view.quota.as_ref().map(of);
        Self {
            project: project_name(projects, view.project),
            state: match view.state {
                TokenState::Active => "Active",
                TokenState::Suspended => "Suspended",
                TokenState::Revoked => "Revoked",
            },
            env_file,
            revision: current.map(|revision| revision.revision),
            prefix: current.map(|revision| revision.prefix.clone()),
            issued_at: current.map(|revision| time(revision.issued_at)),
            expires_at: current.map(|revision| time(revision.ends_at)),
            max_requests: figure(|quota| quota.max_units).or(view.max_requests),
            used: figure(|quota| quota.used),
            reserved: figure(|quota| quota.reserved),
            forfeited: figure(|quota| quota.forfeited),
            revisions: view.revisions.iter().map(Revision::of).collect(),
            namespace: view.owner.namespace,
            name: view.owner.name,
        }
    }
}

impl Revision {
    fn of(view: &RevisionView) -> Self {
        Self {
            revision: view.revision,
            prefix: view.prefix.clone(),
            state: match view.state {
                RevisionState::Pending => "Pending",
                RevisionState::Active => "Active",
                RevisionState::Previous => "Previous",
                RevisionState::Ended => "Ended",
            },
            issued_at: time(view.issued_at),
            ends_at: time(view.ends_at),
        }
    }
}

fn sum_usage(rows: Vec<UsageRow>, tokens: &[TokenView], projects: &[ProjectView]) -> Vec<Usage> {
    let mut sums = BTreeMap::<_, Usage>::new();
    for row in rows {
        let token = row
            .token
            .and_then(|id| tokens.iter().find(|token| token.id == id))
            .map(|token| format!("{}/{}", token.owner.namespace, token.owner.name));
        let project = row.project.and_then(|id| project_name(projects, id));
        let sum = sums.entry((project, token, row.model, row.provider)).or_default();
        sum.requests += row.requests;
        sum.input_tokens += row.input_tokens;
        sum.cached_tokens += row.cached_tokens;
        sum.output_tokens += row.output_tokens;
        sum.reasoning_tokens += row.reasoning_tokens;
        sum.estimated += row.estimated;
    }
    sums.into_iter()
        .map(|((project, token, model, provider), sum)| Usage {
            project,
            token,
            model,
            provider,
            ..sum
        })
        .collect()
}

fn project_name(projects: &[ProjectView], id: store::ProjectId) -> Option<String> {
    projects
        .iter()
        .find(|project| project.id == id)
        .map(|project| format!("{}/{}", project.owner.namespace, project.owner.name))
}

/// The order in which objects build on each other.
fn kind_rank(kind: &str) -> (u8, &str) {
    let rank = ["ProxyConfig", "LLMProject", "WitheringToken"]
        .iter()
        .position(|known| *known == kind)
        .unwrap_or(3);
    (u8::try_from(rank).unwrap_or(3), kind)
}

/// RFC 3339 in UTC, whole seconds.
fn time(at: DbTime) -> String {
    jiff::Timestamp::from_second(at.0.div_euclid(1000)).map_or_else(|_| at.0.to_string(), |moment| moment.to_string())
}
