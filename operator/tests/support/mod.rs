//! A standalone installation in a temporary folder: manifests, data directory, a database whose clock is moved by hand, and processes that can die.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crds::conditions::{Condition, ConditionType, find};
use operator::effect::Effect;
use operator::files::{FilesReconciler, PassReport, Sources, check, claim_of};
use store::{Claim, DbTime, FileObject, Fleet, GrantRecord, KeyRing, RevisionState, RevisionView, SealingKey, Store, TokenValue, TokenView};

/// When every installation begins, on its database's clock.
pub(crate) const START: DbTime = DbTime(1_800_000_000_000);
/// The base URL of the first process.
pub(crate) const URL: &str = "http://127.0.0.1:8080/v1";
/// A minute in ms.
pub(crate) const MINUTE: i64 = 60_000;

/// A fleet with the Echo provider and one that wants a key.
pub(crate) const FLEET: &str = "apiVersion: llm-proxy.dev/v1alpha1
kind: ProxyConfig
metadata: {name: main}
spec:
  database: {sqlite: {}}
  providers:
    - {name: echo, api: Echo}
    - {name: openai, api: OpenAI, baseURL: 'https://api.openai.com'}
";

/// A project on Echo.
pub(crate) const PROJECT: &str = "apiVersion: llm-proxy.dev/v1alpha1
kind: LLMProject
metadata: {name: shop}
spec:
  proxyRef: {name: main}
  providers: [{name: echo}]
";

/// A token manifest of this name with these further lines of spec.
pub(crate) fn token(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {{name: {name}}}\nspec:\n  \
         projectRef: {{name: shop}}\n  ttl: 30m\n  {spec}\n"
    )
}

/// One installation.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    key: String,
    pub(crate) fleet: Fleet,
    pub(crate) base_url: String,
    pub(crate) stdin: Option<String>,
    now: DbTime,
    instant: Instant,
}

/// One process that reconciles.
pub(crate) struct Process {
    reconciler: FilesReconciler,
}

impl Home {
    /// An installation with a fleet and a project, and nothing reconciled yet.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["manifests", "data"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let key = {
            use secrecy::ExposeSecret;
            SealingKey::generate().to_base64().expose_secret().to_owned()
        };
        let claim = Claim {
            cluster: "standalone".to_owned(),
            namespace: "default".to_owned(),
            name: "main".to_owned(),
        };
        let store = open(dir.path(), &key).await;
        store.migrate().await.unwrap();
        store.use_test_clock(START.0).await.unwrap();
        let fleet = store.claim(&claim).await.unwrap();
        let home = Self {
            dir,
            key,
            fleet,
            base_url: URL.to_owned(),
            stdin: None,
            now: START,
            instant: Instant::now(),
        };
        home.write("fleet.yaml", FLEET);
        home.write("project.yaml", PROJECT);
        home
    }

    /// The folder of the manifests.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.manifests().join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).unwrap();
    }

    /// Where the Secret of this name lands.
    pub(crate) fn env_path(&self, secret: &str) -> PathBuf {
        self.dir.path().join(format!("data/secrets/default.{secret}.env"))
    }

    /// The value in the Secret of this name.
    pub(crate) fn value(&self, secret: &str) -> Option<TokenValue> {
        let text = fs::read_to_string(self.env_path(secret)).ok()?;
        TokenValue::parse(text.lines().find_map(|line| line.strip_prefix("OPENAI_API_KEY="))?).ok()
    }

    /// A process on this installation, as if just started.
    pub(crate) fn process(&self) -> Process {
        let sources = Sources::new(vec![self.manifests()], self.stdin.clone());
        let claim = Claim {
            cluster: "standalone".to_owned(),
            namespace: "default".to_owned(),
            name: "main".to_owned(),
        };
        let data = self.dir.path().join("data");
        let reconciler = FilesReconciler::new(sources, &data, self.fleet.clone(), claim, self.base_url.clone()).unwrap();
        Process { reconciler }
    }

    /// The claim that the manifests make.
    pub(crate) fn claim(&self) -> Claim {
        claim_of(&check(&Sources::new(vec![self.manifests()], None))).unwrap()
    }

    /// Moves the database's clock.
    pub(crate) async fn advance(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        self.fleet.store().set_test_clock(self.now.0).await.unwrap();
    }

    pub(crate) fn now(&self) -> DbTime {
        self.now
    }

    /// Closes the database and opens it again, as a restart does.
    pub(crate) async fn reopen(&mut self) {
        self.fleet.store().close().await;
        let store = open(self.dir.path(), &self.key).await;
        self.fleet = store.claimed().await.unwrap().unwrap().1;
    }

    /// One pass, a second after the one before on the process's own clock.
    pub(crate) async fn pass(&mut self, process: &mut Process) -> PassReport {
        self.instant += Duration::from_secs(1);
        process.reconciler.pass_at(self.instant).await.unwrap()
    }

    /// Passes until one has nothing to do after another that had nothing to do. The last report.
    pub(crate) async fn settle(&mut self, process: &mut Process) -> PassReport {
        let mut calm = 0;
        for _ in 0..20 {
            let report = self.pass(process).await;
            calm = if report.effects == 0 { calm + 1 } else { 0 };
            if report.stopped || calm == 2 {
                return report;
            }
        }
        panic!("it does not settle");
    }

    /// A fresh process, settled.
    pub(crate) async fn settled(&mut self) -> PassReport {
        let mut process = self.process();
        self.settle(&mut process).await
    }

    /// The row of the token of this name that is declared now.
    pub(crate) async fn token(&self, name: &str) -> TokenView {
        let object = self.object("WitheringToken", name).await.expect("a stored token");
        self.fleet.token_by_uid(&object.uid).await.unwrap().expect("a row")
    }

    /// A stored object.
    pub(crate) async fn object(&self, kind: &str, name: &str) -> Option<FileObject> {
        self.fleet
            .file_objects()
            .await
            .unwrap()
            .into_iter()
            .find(|object| object.key.kind == kind && object.key.name == name)
    }

    /// Status and reason of a condition.
    pub(crate) async fn condition(&self, kind: &str, name: &str, about: ConditionType) -> (String, String) {
        let status = self.object(kind, name).await.and_then(|object| object.status).unwrap_or_default();
        let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
        find(&conditions, about).map_or_else(Default::default, |condition| (condition.status.clone(), condition.reason.clone()))
    }

    /// Why a token is ready or not.
    pub(crate) async fn ready(&self, token: &str) -> String {
        let (status, reason) = self.condition("WitheringToken", token, ConditionType::Ready).await;
        format!("{status} {reason}")
    }

    /// What a data plane learns of a value.
    pub(crate) async fn grant(&self, value: &TokenValue) -> Option<GrantRecord> {
        self.fleet.load_grant(&value.digest()).await.unwrap()
    }

    /// Whether a data plane would serve a value now.
    pub(crate) async fn serves(&self, value: &TokenValue) -> bool {
        self.grant(value).await.is_some_and(|grant| {
            let alive = !grant.revision_ended && grant.ends_at > self.now;
            alive && grant.token_state == store::TokenState::Active && grant.project_state == store::ProjectState::Active
        })
    }
}

impl Process {
    /// Has the process die after this many effects. Each effect is shown to `look` before.
    pub(crate) fn dies_after(&mut self, effects: usize, mut look: impl FnMut(&Effect) + Send + Sync + 'static) {
        let mut left = effects;
        self.reconciler.after_each_effect(move |effect| {
            look(effect);
            left = left.saturating_sub(1);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Has `look` shown every effect.
    pub(crate) fn shows(&mut self) -> Arc<Mutex<Vec<String>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        self.reconciler.after_each_effect(move |effect| {
            into.lock().unwrap().push(name(effect));
            ControlFlow::Continue(())
        });
        seen
    }

    /// Gives the reconciler away, to be run.
    pub(crate) fn into_reconciler(self) -> FilesReconciler {
        self.reconciler
    }
}

/// An effect by its name.
pub(crate) fn name(effect: &Effect) -> String {
    let text = format!("{effect:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// The revisions of a state that live.
pub(crate) fn living(row: &TokenView, state: RevisionState, now: DbTime) -> Vec<&RevisionView> {
    row.revisions
        .iter()
        .filter(|revision| revision.state == state && revision.ends_at > now)
        .collect()
}

async fn open(dir: &Path, key: &str) -> Store {
    let keys = KeyRing::single(SealingKey::from_base64(key).unwrap());
    Store::open_sqlite(&dir.join("data/llm-proxy.db"), keys).await.unwrap()
}
