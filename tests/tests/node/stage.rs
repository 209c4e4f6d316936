//! A team's namespace on a node that has the chart: a database of its own behind a wire, a fleet, a project, a token.

use serde_json::{Value, json};
use testkit::client::{Connection, Request, Response};
use testkit::cluster::{Answer, User};
use testkit::postgres::Database;
use testkit::postgres::wire::Wire;

use std::net::SocketAddr;
use std::time::Duration;

use crate::site::{RESTRICTED, Site, until};

/// The namespace and what stands around it.
pub(crate) struct Stage<'a> {
    pub(crate) site: &'a Site,
    pub(crate) wire: Wire,
    pub(crate) namespace: String,
    pub(crate) database: Database,
}

impl<'a> Stage<'a> {
    /// A new namespace under Pod Security `restricted`.
    pub(crate) fn on(site: &'a Site) -> Self {
        Self::labelled(site, &[RESTRICTED])
    }

    /// A new namespace with these labels.
    pub(crate) fn labelled(site: &'a Site, labels: &[(&str, &str)]) -> Self {
        let database = Database::create();
        let wire = Wire::from(site.node.network().machine(), database.server_address());
        let namespace = site.cluster().namespace_with_labels(labels);
        site.await_account(&namespace);
        Self {
            site,
            wire,
            namespace,
            database,
        }
    }

    /// The same with the fleet `main` of so many pods, the project `demo` and the unlimited token `hello`, which is Ready.
    pub(crate) fn with_fleet(site: &'a Site, replicas: u32) -> Self {
        let stage = Self::on(site);
        stage.database_secret(&stage.database_url());
        stage.fleet(replicas);
        stage.wait_for("proxyconfig/main", "condition=Ready");
        stage.wait_for("witheringtoken/hello", "condition=Ready");
        stage
    }

    /// The database's address as pods reach it.
    pub(crate) fn database_url(&self) -> String {
        self.database.url_through(self.wire.address())
    }

    /// kubectl in the namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        self.site.kubectl(&[&["--namespace", &self.namespace][..], args].concat())
    }

    /// Applies objects in the namespace.
    pub(crate) fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let args = ["--namespace", &self.namespace, "apply", "-f", "-"];
        let _ = self.site.cluster().kubectl_with_input(User::Admin, &args, &list.to_string()).ok();
    }

    /// The Secret that the fleet reads.
    pub(crate) fn database_secret(&self, url: &str) {
        self.apply(&[json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "llm-proxy-database" }, "stringData": { "url": url } })]);
    }

    /// A fleet `main` on the Echo provider, a project, and an unlimited token `hello`.
    pub(crate) fn fleet(&self, replicas: u32) {
        self.apply(&[
            ours("ProxyConfig", "main", fleet_of(replicas)),
            ours(
                "LLMProject",
                "demo",
                json!({ "proxyRef": { "name": "main" }, "providers": [{ "name": "echo" }] }),
            ),
            ours("WitheringToken", "hello", json!({ "projectRef": { "name": "demo" } })),
        ]);
    }

    /// Waits for a condition of an object in the namespace, such as `condition=Ready`.
    #[track_caller]
    pub(crate) fn wait_for(&self, object: &str, condition: &str) {
        let answer = self.kubectl(&["wait", object, &format!("--for={condition}"), "--timeout=120s"]);
        assert!(answer.success, "{}\n{}", answer.stderr, self.told());
    }

    /// What one field of an object is.
    pub(crate) fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).stdout
    }

    /// Reason and message of a condition.
    pub(crate) fn condition(&self, object: &str, name: &str) -> (String, String) {
        let part = |part: &str| self.field(object, &format!(r#".status.conditions[?(@.type=="{name}")].{part}"#));
        (part("reason"), part("message"))
    }

    /// The address of the fleet's Service, once it leads to as many pods as there should be.
    pub(crate) fn service(&self, pods: usize) -> SocketAddr {
        until("the Service leads to the pods", Duration::from_secs(60), || {
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
        await_ready(address);
        address
    }

    /// The key of the token `hello`.
    pub(crate) fn key(&self) -> String {
        let key = self.kubectl(&["get", "secret", "hello", "-o", "go-template={{.data.token | base64decode}}"]);
        key.ok()
    }

    /// Runs a pod to its end, and returns whether it succeeded and what it said.
    pub(crate) fn run_pod(&self, pod: &Value) -> (bool, String) {
        self.apply(std::slice::from_ref(pod));
        let name = format!("pod/{}", pod["metadata"]["name"].as_str().unwrap());
        let mut phase = String::new();
        until("the pod ends", Duration::from_secs(120), || {
            phase = self.field(&name, ".status.phase");
            phase == "Succeeded" || phase == "Failed"
        });
        (phase == "Succeeded", self.kubectl(&["logs", &name]).ok())
    }

    /// Everything that tells why something failed.
    pub(crate) fn told(&self) -> String {
        self.site.told(&self.namespace)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Before its database, for which the operator would go on asking.
        let _ = self.site.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// Waits until whoever stands behind an address is ready: kube-proxy follows the pods within a second or so.
pub(crate) fn await_ready(address: SocketAddr) {
    until("kube-proxy leads there", Duration::from_secs(60), || {
        let answer = Connection::open(address).and_then(|mut connection| connection.send(&Request::get("/ready")));
        answer.is_ok_and(|answer| answer.status == 200)
    });
}

/// The spec of a fleet on the Echo provider and the Secret `llm-proxy-database`.
pub(crate) fn fleet_of(replicas: u32) -> Value {
    let database = json!({ "postgres": { "secretRef": { "name": "llm-proxy-database" } } });
    json!({ "replicas": replicas, "database": database, "providers": [{ "name": "echo", "api": "Echo" }] })
}

/// An object of ours.
pub(crate) fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "llm-proxy.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A pod that runs the image's binary once, with a Secret as its environment, as an application that is allowed nothing.
pub(crate) fn client(name: &str, secret: &str, args: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "run": "client" } },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "client", "image": crate::site::IMAGE, "imagePullPolicy": "Never",
                "envFrom": [{ "secretRef": { "name": secret } }],
                "args": args,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        },
    })
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
