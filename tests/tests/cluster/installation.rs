//! A namespace with a fleet on a PostgreSQL database of its own, a project, and operators that come, die and go. Several tests share the control
//! plane; each has an installation of its own. Waits are conditions with a deadline.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crds::conditions::{ConditionType, find};
use crds::{LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use operator::cluster::{Concurrency, Hook, LeaseTiming, Options, Scope};
use operator::effect::Effect;
use operator::object::Object;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{TokenDigest, TokenValue};
use testkit::cluster::{Cluster, User, install};
use testkit::postgres::Database;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The deadline of conditions that have none of their own.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How soon what was missing must be taken up, and some patience for a loaded machine.
pub(crate) const HEALS: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 2 });

/// A namespace, its database and who reconciles it.
pub(crate) struct Installation {
    pub(crate) cluster: &'static Cluster,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) database: Database,
    identity: String,
    operator: Option<Operator>,
}

/// An operator in this process.
pub(crate) struct Operator {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Operator {
    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        (&mut self.task).await.unwrap();
    }
}

impl Operator {
    /// Waits until its hook has ended it.
    pub(crate) async fn dies(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, &mut self.task).await.is_ok()
    }
}

impl Drop for Operator {
    /// Ends it as SIGKILL does.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Installation {
    /// A namespace with a database, its Secret, the fleet `main` and the project `shop`; nobody reconciles it yet.
    pub(crate) async fn declared() -> Self {
        let installation = Self::empty().await;
        installation.declare_fleet("main").await;
        installation.apply(&project("shop", "main")).await;
        installation
    }

    /// The same with an operator, and the project is in force.
    pub(crate) async fn running() -> Self {
        let mut installation = Self::declared().await;
        installation.start().await;
        installation.project_is("shop", "True Ready").await;
        installation
    }

    /// A namespace and a database.
    pub(crate) async fn empty() -> Self {
        Self::empty_on(Cluster::shared()).await
    }

    /// The same on a control plane of the test's own.
    pub(crate) async fn empty_on(cluster: &'static Cluster) -> Self {
        let namespace = cluster.namespace();
        Self {
            cluster,
            client: cluster.client(User::Admin),
            identity: format!("cluster-{namespace}"),
            namespace,
            database: Database::create(),
            operator: None,
        }
    }

    /// Declares a fleet of this name on the database, with a provider that answers by itself and one that wants a key.
    pub(crate) async fn declare_fleet(&self, name: &str) {
        self.apply(&self.database_secret()).await;
        self.apply(&fleet(name, "")).await;
    }

    /// The Secret with the database's URL.
    pub(crate) fn database_secret(&self) -> String {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": {"url": self.database.url()}}).to_string()
    }

    /// The cluster part of every identity here.
    pub(crate) fn share_identity(&mut self, with: &Self) {
        self.identity.clone_from(&with.identity);
    }

    /// Starts an operator of this namespace.
    pub(crate) async fn start(&mut self) {
        self.operator = Some(self.operator(self.options()));
    }

    /// Stops the operator as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.stop().await;
        }
    }

    /// What an operator of this namespace is told. Each start has a Lease of its own, so that nobody waits for that of one who died.
    pub(crate) fn options(&self) -> Options {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Options {
            scope: Scope::Namespaces([self.namespace.clone()].into()),
            cluster_id: Some(self.identity.clone()),
            // It outlives the namespace that is looked at.
            lease_namespace: "default".to_owned(),
            lease_name: format!("{}-{number}", self.namespace),
            lease_timing: LeaseTiming::default(),
            identity: format!("operator-{number}"),
            image: "example.com/llm-proxy:test".to_owned(),
            concurrency: Concurrency::default(),
            listen: None,
        }
    }

    /// An operator with these options.
    pub(crate) fn operator(&self, options: Options) -> Operator {
        self.operator_through(self.cluster.client(User::Operator), options)
    }

    /// An operator that speaks to the API server by this client.
    pub(crate) fn operator_through(&self, client: Client, options: Options) -> Operator {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            operator::cluster::run(client, options, stopped).await.unwrap();
        });
        Operator { stop: Some(stop), task }
    }

    /// An operator that shows every performed effect to `hook`, and dies where that says so.
    pub(crate) fn mortal(&self, hook: impl Fn(&Object, &Effect) -> ControlFlow<()> + Send + Sync + 'static) -> Operator {
        let (client, options, hook) = (self.cluster.client(User::Operator), self.options(), Arc::new(hook) as Hook);
        let task = tokio::spawn(async move {
            operator::cluster::run_with_hook(client, options, std::future::pending(), Some(hook))
                .await
                .unwrap();
        });
        Operator { stop: None, task }
    }

    /// Applies YAML in this namespace, as a person does.
    pub(crate) async fn apply(&self, yaml: &str) {
        self.try_apply(yaml).await.unwrap();
    }

    /// The same, and what the API server says.
    pub(crate) async fn try_apply(&self, yaml: &str) -> kube::Result<()> {
        let objects = install::objects(yaml).into_iter().map(|mut object| {
            object.metadata.namespace.get_or_insert_with(|| self.namespace.clone());
            serde_json::to_string(&object).unwrap()
        });
        install::apply(&self.client, &objects.collect::<Vec<_>>().join("\n---\n")).await
    }

    /// The objects of a kind here.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Changes an object by a merge patch.
    pub(crate) async fn patch<K>(&self, name: &str, patch: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Deletes an object.
    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// A token.
    pub(crate) async fn token(&self, name: &str) -> WitheringToken {
        self.api::<WitheringToken>().get(name).await.unwrap()
    }

    /// Waits until `Ready` of a token is this status and reason, said of its present spec; the token then.
    pub(crate) async fn token_is(&self, name: &str, ready: &str) -> WitheringToken {
        self.token_is_within(name, ready, SOON).await
    }

    /// The same with another deadline.
    pub(crate) async fn token_is_within(&self, name: &str, ready: &str, limit: Duration) -> WitheringToken {
        let mut last = String::new();
        let start = Instant::now();
        loop {
            let token = self.token(name).await;
            let status = token.status.clone().unwrap_or_default();
            let condition = find(&status.conditions, ConditionType::Ready);
            last = condition.map_or(last, |ready| format!("{} {}", ready.status, ready.reason));
            if last == ready && status.observed_generation == token.metadata.generation {
                return token;
            }
            assert!(
                start.elapsed() < limit,
                "token {name} is not {ready:?} within {limit:?}: {}",
                self.picture().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `Ready` of a project is this status and reason, said of its present spec; the project then.
    pub(crate) async fn project_is(&self, name: &str, ready: &str) -> LlmProject {
        self.project_is_within(name, ready, SOON).await
    }

    /// The same with another deadline.
    pub(crate) async fn project_is_within(&self, name: &str, ready: &str, limit: Duration) -> LlmProject {
        let start = Instant::now();
        loop {
            let project = self.api::<LlmProject>().get(name).await.unwrap();
            let status = project.status.clone().unwrap_or_default();
            let found = find(&status.conditions, ConditionType::Ready).map(|ready| format!("{} {}", ready.status, ready.reason));
            if found.as_deref() == Some(ready) && status.observed_generation == project.metadata.generation {
                return project;
            }
            assert!(
                start.elapsed() < limit,
                "project {name} is not {ready:?} within {limit:?}: {}",
                self.picture().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Applies a token and waits until its key works.
    pub(crate) async fn issued(&self, name: &str, spec: &str) -> WitheringToken {
        self.apply(&token(name, spec)).await;
        self.token_is(name, "True Issued").await
    }

    /// What stands here, for whoever reads why a test failed.
    async fn picture(&self) -> String {
        async fn of<K>(api: Api<K>) -> String
        where
            K: kube::Resource<DynamicType = ()> + kube::core::object::HasStatus<Status: Debug> + Clone + DeserializeOwned + Debug,
        {
            let list = api.list(&Default::default()).await.unwrap();
            list.items
                .iter()
                .map(|object| format!("{}: {:#?}\n", object.meta().name.as_deref().unwrap_or_default(), object.status()))
                .collect()
        }
        let (fleets, projects, tokens) = (self.api::<ProxyConfig>(), self.api::<LlmProject>(), self.api::<WitheringToken>());
        format!("{}{}{}", of(fleets).await, of(projects).await, of(tokens).await)
    }

    /// A Secret, if it is there.
    pub(crate) async fn secret(&self, name: &str) -> Option<Secret> {
        self.api::<Secret>().get_opt(name).await.unwrap()
    }

    /// The key in a Secret, as an application reads it.
    pub(crate) async fn key(&self, secret: &str) -> Option<TokenValue> {
        let secret = self.secret(secret).await?;
        let entry = |key: &str| Some(String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).unwrap());
        TokenValue::parse(&entry("OPENAI_API_KEY").or_else(|| entry("token"))?).ok()
    }

    /// Whether a data plane would serve a key now.
    pub(crate) async fn serves(&self, key: &TokenValue) -> bool {
        let sql = format!(
            "SELECT count(*) FROM token_revisions r JOIN tokens t ON t.id = r.token_id JOIN projects p ON p.id = t.project_id, clock c
             WHERE r.digest = '\\x{}' AND r.state <> 'Ended' AND r.ends_at > c.now_ms AND t.state = 'Active' AND p.state = 'Active'",
            hex(key.digest())
        );
        self.number(&sql).await == 1
    }

    /// The one number that a text selects.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        tokio::task::block_in_place(|| self.database.number(sql))
    }

    /// The rows that a text selects.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<Vec<String>> {
        tokio::task::block_in_place(|| self.database.texts(sql))
    }

    /// How many rows of keys and projects could still be used.
    pub(crate) async fn living_rows(&self) -> i64 {
        let revisions = "SELECT count(*) FROM token_revisions r JOIN tokens t ON t.id = r.token_id, clock c
            WHERE r.state <> 'Ended' AND r.ends_at > c.now_ms AND t.state <> 'Revoked'";
        let projects = "SELECT count(*) FROM projects WHERE state <> 'Deleted'";
        self.number(&format!("SELECT ({revisions}) + ({projects})")).await
    }

    /// Sets the database's clock so many ms ahead of the real one.
    pub(crate) async fn set_clock_ahead(&self, ms: i64) {
        let sql = format!(
            "CREATE OR REPLACE VIEW clock AS SELECT CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) * 1000) AS BIGINT) + {ms} AS now_ms"
        );
        tokio::task::block_in_place(|| self.database.execute(&sql));
    }

    /// Has the operator look at a token again, as a person may who does not want to wait.
    pub(crate) async fn nudge(&self, token: &str) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        self.patch::<WitheringToken>(token, json!({"metadata": {"annotations": {"llm-proxy.dev/reconcile-at": number}}}))
            .await;
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A fleet of this name with these further lines of spec.
pub(crate) fn fleet(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {{name: {name}}}\nspec:\n  replicas: 0\n  \
         database: {{postgres: {{secretRef: {{name: database}}}}}}\n  providers:\n  - {{name: echo, api: Echo}}\n  \
         - {{name: openai, api: OpenAI, baseURL: 'https://api.openai.com'}}\n{spec}"
    )
}

/// A project of this name on the provider that answers by itself.
pub(crate) fn project(name: &str, fleet: &str) -> String {
    format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: LLMProject\nmetadata: {{name: {name}}}\nspec:\n  proxyRef: {{name: {fleet}}}\n  \
         providers: [{{name: echo}}]\n"
    )
}

/// A token of project `shop` with these further lines of spec.
pub(crate) fn token(name: &str, spec: &str) -> String {
    token_of("shop", name, spec)
}

/// A token of a project with these further lines of spec, each indented by two.
pub(crate) fn token_of(project: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {{name: {name}}}\nspec:\n  projectRef: {{name: {project}}}\n  {spec}\n"
    )
}

/// A digest as PostgreSQL writes it.
pub(crate) fn hex(digest: TokenDigest) -> String {
    digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
