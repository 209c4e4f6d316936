//! A node with the chart and a fleet on it, for tests of what happens afterwards.

use serde_json::{Value, json};
use testkit::charts;
use testkit::client::{Connection, Request, Response};
use testkit::cluster::node::Node;
use testkit::cluster::{Answer, Cluster, User};
use testkit::image::{self, Recipe};
use testkit::postgres::Database;
use testkit::postgres::wire::Wire;
use testkit::{program, wait};

use std::net::SocketAddr;
use std::time::Duration;

/// Where the operator runs.
pub(crate) const SYSTEM: &str = "llm-proxy-system";

/// Where the fleet runs.
pub(crate) const TEAM: &str = "team";

/// The image of operator and fleet.
pub(crate) const IMAGE: &str = "llm-proxy:tests";

/// The node and what stands around it.
pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) wire: Wire,
    database: Database,
}

impl Stage {
    /// A node with our image, two namespaces under Pod Security `restricted`, and the chart; none where a node is not possible.
    pub(crate) fn where_possible() -> Option<Self> {
        let node = Node::start_where_possible()?;
        let database = Database::create();
        let wire = Wire::from(node.network().machine(), database.server_address());
        let stage = Self { node, wire, database };
        stage.import(IMAGE);
        let cluster = stage.cluster();
        for namespace in [SYSTEM, TEAM] {
            let _ = cluster.kubectl(&["create", "namespace", namespace]).ok();
            let label = "pod-security.kubernetes.io/enforce=restricted";
            let _ = cluster.kubectl(&["label", "namespace", namespace, label]).ok();
        }
        let chart = charts::chart("llm-proxy");
        let installed = stage.helm(&[
            "install",
            "llm-proxy",
            chart.to_str().unwrap(),
            "--set=image.tag=tests",
            "--wait",
            "--timeout=120s",
        ]);
        assert!(installed.success, "{}{}\n{}", installed.stdout, installed.stderr, stage.told());
        Some(stage)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.node.cluster()
    }

    /// Makes the binary under test known to the node under a name.
    pub(crate) fn import(&self, name: &str) {
        let file = self.node.scratch(&format!("{}.tar", name.replace(':', "-")));
        let image = image::write(&Recipe::of_llm_proxy(&program::path(), name), &file).unwrap();
        self.node.import(&image);
    }

    /// The database's address as pods reach it.
    pub(crate) fn database_url(&self) -> String {
        self.database.url_through(self.wire.address())
    }

    pub(crate) fn helm(&self, args: &[&str]) -> Answer {
        let mut command = charts::helm(self.cluster().folder());
        command
            .env("KUBECONFIG", self.cluster().kubeconfig(User::Admin))
            .args(["--namespace", SYSTEM])
            .args(args);
        command.output().unwrap().into()
    }

    /// kubectl in the team's namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        self.cluster().kubectl(&[&["--namespace", TEAM][..], args].concat())
    }

    /// Applies objects in the team's namespace.
    pub(crate) fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let args = ["--namespace", TEAM, "apply", "-f", "-"];
        let _ = self.cluster().kubectl_with_input(User::Admin, &args, &list.to_string()).ok();
    }

    /// The Secret that the fleet reads.
    pub(crate) fn database_secret(&self, url: &str) {
        self.apply(&[json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "llm-proxy-database" }, "stringData": { "url": url } })]);
    }

    /// A fleet `main` on the Echo provider, a project, and an unlimited token `hello`.
    pub(crate) fn fleet(&self, replicas: u32) {
        let database = json!({ "postgres": { "secretRef": { "name": "llm-proxy-database" } } });
        let providers = json!([{ "name": "echo", "api": "Echo" }]);
        self.apply(&[
            ours(
                "ProxyConfig",
                "main",
                json!({ "replicas": replicas, "database": database, "providers": providers }),
            ),
            ours(
                "LLMProject",
                "demo",
                json!({ "proxyRef": { "name": "main" }, "providers": [{ "name": "echo" }] }),
            ),
            ours("WitheringToken", "hello", json!({ "projectRef": { "name": "demo" } })),
        ]);
    }

    /// Waits for a condition of an object in the team's namespace, such as `condition=Ready`.
    #[track_caller]
    pub(crate) fn wait_for(&self, object: &str, condition: &str) {
        let answer = self.kubectl(&["wait", object, &format!("--for={condition}"), "--timeout=120s"]);
        assert!(answer.success, "{}\n{}", answer.stderr, self.told());
    }

    /// What one field of an object is.
    pub(crate) fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).stdout
    }

    /// The address of the fleet's Service, once it leads to as many pods as there should be.
    pub(crate) fn service(&self, pods: usize) -> SocketAddr {
        wait::until("the Service leads to the pods", Duration::from_secs(60), || {
            let slices = self.kubectl(&[
                "get",
                "endpointslices",
                "-l",
                "kubernetes.io/service-name=main",
                "-o",
                "jsonpath={.items[*].endpoints[*].conditions.ready}",
            ]);
            slices.stdout.split_whitespace().filter(|&ready| ready == "true").count() == pods
        });
        let address = format!("{}:8080", self.field("service/main", ".spec.clusterIP")).parse().unwrap();
        wait::until("kube-proxy leads there", Duration::from_secs(60), || {
            let answer = Connection::open(address).and_then(|mut connection| connection.send(&Request::get("/ready")));
            answer.is_ok_and(|answer| answer.status == 200)
        });
        address
    }

    /// The key of the token `hello`.
    pub(crate) fn key(&self) -> String {
        let key = self.kubectl(&["get", "secret", "hello", "-o", "go-template={{.data.token | base64decode}}"]);
        key.ok()
    }

    /// Everything that tells why something failed.
    pub(crate) fn told(&self) -> String {
        let mut told = String::new();
        for args in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "llm-proxy", "-A", "-o", "yaml"],
            &["-n", SYSTEM, "describe", "pods"],
            &[
                "-n",
                SYSTEM,
                "logs",
                "-l",
                "app.kubernetes.io/component=operator",
                "--tail=60",
                "--prefix",
            ],
            &["-n", TEAM, "describe", "pods"],
            &["-n", TEAM, "logs", "-l", "app.kubernetes.io/part-of=llm-proxy", "--tail=40", "--prefix"],
        ] {
            let answer = self.cluster().kubectl(args);
            told += &format!("--- kubectl {}\n{}{}\n", args.join(" "), answer.stdout, answer.stderr);
        }
        told
    }
}

/// An object of ours.
pub(crate) fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "llm-proxy.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A stream of so many words, 20 ms each.
pub(crate) fn stream(key: &str, words: usize) -> Request {
    let text = vec!["word"; words].join(" ");
    let body = json!({ "model": "echo-20ms", "stream": true, "messages": [{ "role": "user", "content": text }] });
    Request::post("/v1/chat/completions", &body).bearer(key)
}

/// Whether all of so many words came.
pub(crate) fn is_whole(response: &Response, words: usize) -> bool {
    let text = response.text();
    response.status == 200 && text.matches("word").count() == words && text.contains("data: [DONE]")
}
