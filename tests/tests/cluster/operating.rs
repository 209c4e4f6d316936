//! An operator in this process, and a team's namespace with a fleet, a project and tokens in it. Every test has its own of both: its operator
//! looks at its namespaces alone, under a cluster id of its own. It refuses to know what a test is about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use operator::cluster::{self, Concurrency, Hook, LeaseTiming, Options, Scope};
use testkit::cluster::{Cluster, User};
use testkit::postgres::Database;
use testkit::random::Random;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long an operator may take to end in an orderly way.
const END: Duration = Duration::from_secs(30);

/// What an operator of the tests is told: the given namespaces, and a cluster id, a Lease and a name of its own.
pub(crate) fn options(namespaces: &[&str]) -> Options {
    let own = Random::fresh().base62(8).to_ascii_lowercase();
    Options {
        scope: Scope::Namespaces(namespaces.iter().map(|&name| name.to_owned()).collect()),
        cluster_id: Some(format!("c-{own}")),
        lease_namespace: namespaces.first().copied().unwrap_or("default").to_owned(),
        lease_name: "llm-proxy-operator".to_owned(),
        lease_timing: LeaseTiming::default(),
        identity: format!("operator-{own}"),
        image: "llm-proxy:test".to_owned(),
        concurrency: Concurrency::default(),
        listen: None,
    }
}

/// A running operator. Dropped, it ends as a crashed one would: at once, giving nothing up.
pub(crate) struct Operating {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: std::sync::mpsc::Receiver<Result<(), String>>,
}

impl Operating {
    /// Starts one with a kubeconfig file, such as that of a [`testkit::cluster::faults::Door`].
    pub(crate) fn start(kubeconfig: &Path, options: Options) -> Self {
        Self::start_with_hook(kubeconfig, options, None)
    }

    /// Starts one as the cluster's operator.
    pub(crate) fn of(cluster: &Cluster, options: Options) -> Self {
        Self::start(&cluster.kubeconfig(User::Operator), options)
    }

    /// Starts one with a hook after each performed effect.
    pub(crate) fn start_with_hook(kubeconfig: &Path, options: Options, hook: Option<Hook>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = std::sync::mpsc::channel();
        let kubeconfig = kubeconfig.to_owned();
        runtime.spawn(async move {
            let run = async {
                let client = cluster::connect(Some(&kubeconfig), &options.identity).await?;
                cluster::run_with_hook(client, options, async { drop(stopped.await) }, hook).await
            };
            let _ = end.send(run.await.map_err(|error| error.to_string()));
        });
        Self {
            runtime: Some(runtime),
            stop: Some(stop),
            ended,
        }
    }

    /// Ends it in an orderly way.
    pub(crate) fn stop(mut self) {
        drop(self.stop.take());
        self.wait();
    }

    /// Waits until it ends by itself, as after its hook's `Break`.
    pub(crate) fn wait(&self) {
        self.ended.recv_timeout(END).expect("the operator ends").expect("the operator runs");
    }
}

impl Drop for Operating {
    fn drop(&mut self) {
        // An orderly stop must not begin now: the sender goes last.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A namespace with a database, and the Secrets that a fleet and a project of it name.
pub(crate) struct Team {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: String,
    pub(crate) database: Arc<Database>,
}

impl Team {
    /// A new one on the shared cluster, with nothing declared yet.
    pub(crate) fn new() -> Self {
        Self::on(Cluster::shared())
    }

    /// The same on another cluster.
    pub(crate) fn on(cluster: &'static Cluster) -> Self {
        let team = Self {
            cluster,
            namespace: cluster.namespace(),
            database: Arc::new(Database::create()),
        };
        team.apply(&team.secrets());
        team
    }

    /// Applies manifests, in the team's namespace unless they name another.
    pub(crate) fn apply(&self, manifests: &str) {
        let args = ["apply", "-n", &self.namespace, "-f", "-"];
        self.cluster.kubectl_with_input(User::Admin, &args, manifests).ok();
    }

    /// kubectl in the team's namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(args);
        self.cluster.kubectl(&all).ok()
    }

    /// The value under a key of a Secret.
    pub(crate) fn secret_value(&self, name: &str, key: &str) -> String {
        let template = format!("go-template={{{{index .data {key:?} | base64decode}}}}");
        self.kubectl(&["get", "secret", name, "-o", &template])
    }

    /// Waits until an object's condition is as wanted, such as `Ready`, `Ready=False`.
    pub(crate) fn wait_for(&self, object: &str, condition: &str, limit: Duration) {
        let (timeout, condition) = (format!("--timeout={}s", limit.as_secs()), format!("--for=condition={condition}"));
        let answer = self.cluster.kubectl(&["-n", &self.namespace, "wait", object, &condition, &timeout]);
        if !answer.success {
            let stands = self.cluster.kubectl(&["-n", &self.namespace, "get", object, "-o", "yaml"]);
            panic!("{object} is not {condition} within {limit:?}: {}\n{}", answer.stderr, stands.stdout);
        }
    }

    /// The Secrets with the database's URL and the provider's key.
    pub(crate) fn secrets(&self) -> String {
        let url = self.database.url();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: database}}\nstringData: {{url: {url:?}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: provider}}\nstringData: {{api-key: sk-provider}}\n"
        )
    }

    /// A fleet named `main`, on the team's database.
    pub(crate) fn fleet() -> &'static str {
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: main}\nspec:\n  database: {postgres: {secretRef: {name: database}}}\n  \
         providers: [{name: openai, api: OpenAI, baseURL: https://api.openai.com}]\n"
    }

    /// A project named `team` on that fleet.
    pub(crate) fn project() -> &'static str {
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: LLMProject\nmetadata: {name: team}\nspec:\n  proxyRef: {name: main}\n  \
         providers: [{name: openai, credentials: {secretRef: {name: provider}}}]\n"
    }

    /// A token of that project.
    pub(crate) fn token(name: &str) -> String {
        format!(
            "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {{name: {name}}}\nspec: {{projectRef: {{name: team}}, ttl: 24h}}\n"
        )
    }

    /// Fleet, project and one token named `app`.
    pub(crate) fn everything() -> String {
        [Self::fleet(), Self::project(), &Self::token("app")].join("---\n")
    }
}
