//! What the user does on the first day, on a real node: install the chart, apply a fleet, a project and a token, stream from a pod, run into the
//! limit, scale, revoke, delete, uninstall. The transcript of it is a document; UPDATE_TRANSCRIPT=1 writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::charts;
use testkit::client::{Connection, Request};
use testkit::cluster::node::Node;
use testkit::cluster::{Answer, Cluster, User};
use testkit::image::{self, Recipe};
use testkit::postgres::Database;
use testkit::postgres::wire::Wire;
use testkit::{program, wait};

const SYSTEM: &str = "llm-proxy-system";
const TEAM: &str = "team";

/// What each step may take on a loaded machine.
const STEP: &str = "--timeout=120s";

/// A pod that asks once with the token's Secret as its environment.
const CLIENT: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME", "labels": {"run": "client"}}, "spec": {
    "restartPolicy": "Never", "automountServiceAccountToken": false,
    "containers": [{
        "name": "client", "image": "llm-proxy:tests", "imagePullPolicy": "Never", "envFrom": [{"secretRef": {"name": "SECRET"}}],
        "args": ["openai", "chat", "--token=$(OPENAI_API_KEY)", "--base-url=$(OPENAI_BASE_URL)", "--model=echo", "one two three"],
        "securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    }]
}}"#;

/// Commands as a person types them, and what they answer.
struct Terminal<'a> {
    cluster: &'a Cluster,
    transcript: String,
    begun: Instant,
}

impl Terminal<'_> {
    fn says(&mut self, text: &str) {
        eprintln!("[{:5.1} s] {text}", self.begun.elapsed().as_secs_f64());
        let _ = write!(self.transcript, "\n# {text}\n");
    }

    fn run(&mut self, command: &mut Command, shown: &str) -> Answer {
        let answer: Answer = command.output().unwrap().into();
        let _ = writeln!(self.transcript, "$ {shown}\n{}{}", answer.stdout.trim_end(), answer.stderr.trim_end());
        eprintln!("[{:5.1} s] $ {shown}", self.begun.elapsed().as_secs_f64());
        answer
    }

    /// kubectl in the team's namespace, with an exit code of 0.
    #[track_caller]
    fn kubectl(&mut self, words: &str) -> String {
        let args: Vec<&str> = words.split(' ').collect();
        let mut command = self.cluster.kubectl_command(User::Admin);
        command.args(["--namespace", TEAM]).args(args).current_dir(repository());
        let answer = self.run(&mut command, &format!("kubectl {words}"));
        if !answer.success {
            self.cluster.give_up(&answer);
        }
        answer.ok()
    }

    #[track_caller]
    fn helm(&mut self, words: &str) -> String {
        let mut command = charts::helm(self.cluster.folder());
        command.env("KUBECONFIG", self.cluster.kubeconfig(User::Admin)).current_dir(repository());
        command.args(["--namespace", SYSTEM]).args(words.split(' '));
        let answer = self.run(&mut command, &format!("helm {words}"));
        if !answer.success {
            self.cluster.give_up(&answer);
        }
        answer.ok()
    }

    /// Asks once from a pod of its own; returns whether the client was content, and what it said.
    fn ask(&mut self, pod: &str, secret: &str) -> (bool, String) {
        let object = CLIENT.replace("NAME", pod).replace("SECRET", secret);
        let _ = self
            .cluster
            .kubectl_with_input(User::Admin, &["-n", TEAM, "apply", "-f", "-"], &object)
            .ok();
        let phase = || {
            self.cluster
                .kubectl(&["-n", TEAM, "get", "pod", pod, "-o", "jsonpath={.status.phase}"])
                .stdout
        };
        let begun = Instant::now();
        let ended = loop {
            match phase() {
                phase if phase == "Succeeded" || phase == "Failed" => break phase,
                _ if begun.elapsed() < Duration::from_secs(90) => std::thread::sleep(Duration::from_millis(100)),
                phase => self.cluster.give_up(&Answer {
                    success: false,
                    stdout: format!("{pod} does not end, but is {phase}"),
                    stderr: String::new(),
                }),
            }
        };
        (ended == "Succeeded", self.kubectl(&format!("logs {pod}")))
    }
}

/// What becomes of a step that fails: everything that tells why.
trait GiveUp {
    fn give_up(&self, answer: &Answer) -> !;
}

impl GiveUp for Cluster {
    fn give_up(&self, answer: &Answer) -> ! {
        let mut why = format!("{}{}\n", answer.stdout, answer.stderr);
        for args in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "llm-proxy", "-A", "-o", "yaml"],
            &["get", "events", "-A"],
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
            let told = self.kubectl(args);
            let _ = writeln!(why, "--- kubectl {}\n{}{}", args.join(" "), told.stdout, told.stderr);
        }
        panic!("{why}");
    }
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A fleet is Ready when its pods are; that kube-proxy leads to them follows within a second or so.
fn await_service(cluster: &Cluster) {
    let address = cluster
        .kubectl(&["-n", TEAM, "get", "service", "main", "-o", "jsonpath={.spec.clusterIP}:8080"])
        .ok();
    let address = address.parse().unwrap();
    wait::until("the Service leads to a pod", Duration::from_secs(30), || {
        let answer = Connection::open(address).and_then(|mut connection| connection.send(&Request::get("/ready")));
        answer.is_ok_and(|answer| answer.status == 200)
    });
}

/// Every object on the API server, but for what Kubernetes itself writes all the time.
fn everything(cluster: &Cluster) -> BTreeSet<String> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"]).ok();
    let passing = [
        "events",
        "events.events.k8s.io",
        "leases.coordination.k8s.io",
        "endpointslices.discovery.k8s.io",
        "endpoints",
    ];
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !passing.contains(kind)).collect();
    let found = cluster.kubectl(&[
        "get",
        &kinds.join(","),
        "-A",
        "--ignore-not-found",
        "-o",
        "custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name",
        "--no-headers",
    ]);
    found
        .ok()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn install_apply_stream_limit_revoke_scale_delete_and_uninstall() {
    let Some(node) = Node::start_where_possible() else { return };
    let cluster = node.cluster();
    let database = Database::create();
    let wire = Wire::from(node.network().machine(), database.server_address());
    let image = image::write(&Recipe::of_llm_proxy(&program::path(), "llm-proxy:tests"), &node.scratch("image.tar")).unwrap();
    node.import(&image);
    for namespace in [SYSTEM, TEAM] {
        let _ = cluster.kubectl(&["create", "namespace", namespace]).ok();
        let _ = cluster
            .kubectl(&["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"])
            .ok();
        wait::until("the namespace's ServiceAccount", wait::SOON, || {
            cluster.kubectl(&["-n", namespace, "get", "serviceaccount", "default"]).success
        });
    }
    let before = everything(cluster);
    let mut terminal = Terminal {
        cluster,
        transcript: String::new(),
        begun: Instant::now(),
    };

    terminal.says("The operator");
    terminal.helm("install llm-proxy charts/llm-proxy --set image.tag=tests --wait --timeout 120s");

    terminal.says("A fleet on a PostgreSQL database, a team's project, an application's token");
    terminal.kubectl("apply -f examples/fleet-postgres/");
    // The example's Secret is to be filled in; an application of three requests is soon through.
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "llm-proxy-database" },
        "stringData": { "url": database.url_through(wire.address()) },
    });
    let _ = cluster
        .kubectl_with_input(User::Admin, &["-n", TEAM, "apply", "-f", "-"], &secret.to_string())
        .ok();
    terminal.kubectl("patch witheringtoken/hello --type=merge --patch={\"spec\":{\"maxRequests\":3}}");
    for object in ["llmproject/demo", "proxyconfig/main"] {
        terminal.kubectl(&format!(
            "patch {object} --type=merge --patch={{\"spec\":{{\"deletionPolicy\":\"Delete\"}}}}"
        ));
    }
    terminal.kubectl(&format!("wait proxyconfig/main --for=condition=Ready {STEP}"));
    terminal.kubectl(&format!("wait witheringtoken/hello --for=condition=Ready {STEP}"));
    terminal.kubectl("get llm-proxy");

    await_service(cluster);

    terminal.says("An application streams with the token's Secret as its environment, up to the limit of three requests");
    for pod in ["first", "second", "third"] {
        assert_eq!(terminal.ask(pod, "hello"), (true, "one two three\n".to_owned()));
    }
    let (content, said) = terminal.ask("fourth", "hello");
    assert!(!content && said.contains("rate_limit_exceeded"), "{said}");

    terminal.says("More pods, and fewer");
    for replicas in ["3", "1"] {
        terminal.kubectl(&format!("scale proxyconfig/main --replicas={replicas}"));
        terminal.kubectl(&format!(
            "wait proxyconfig/main --for=jsonpath={{.status.readyReplicas}}={replicas} {STEP}"
        ));
    }

    terminal.says("A token revoked is refused");
    // The Secret goes with the key; an application may have kept both.
    let secret = cluster.kubectl(&["-n", TEAM, "get", "secret", "hello", "-o", "json"]).ok();
    let mut kept: serde_json::Value = serde_json::from_str(&secret).unwrap();
    kept["metadata"] = serde_json::json!({ "name": "kept" });
    let _ = cluster
        .kubectl_with_input(User::Admin, &["-n", TEAM, "apply", "-f", "-"], &kept.to_string())
        .ok();
    terminal.kubectl("patch witheringtoken/hello --type=merge --patch={\"spec\":{\"state\":\"Revoked\"}}");
    terminal.kubectl(&format!("wait witheringtoken/hello --for=condition=Ready=False {STEP}"));
    terminal.kubectl(&format!("wait secret/hello --for=delete {STEP}"));
    let (content, said) = terminal.ask("fifth", "kept");
    assert!(!content && said.contains("token_inactive"), "{said}");
    let _ = cluster.kubectl(&["-n", TEAM, "delete", "secret", "kept"]).ok();

    terminal.says("Everything goes again");
    let _ = cluster.kubectl(&["-n", TEAM, "delete", "pod", "-l", "run=client", "--wait=false"]).ok();
    terminal.kubectl("delete -f examples/fleet-postgres/ --wait");
    // The rows go with the last pod, and it takes the operator to do that.
    terminal.kubectl(&format!("wait pod --selector=llm-proxy.dev/proxy=main --for=delete {STEP}"));
    wait::until("the database is nobody's", Duration::from_secs(60), || {
        let left = ["fleets", "projects", "tokens", "usage", "audit"];
        left.iter().all(|table| database.number(&format!("SELECT COUNT(*) FROM {table}")) == 0)
    });
    terminal.helm("uninstall llm-proxy --wait --timeout 120s");
    let begun = Instant::now();
    loop {
        let left: Vec<String> = everything(cluster).difference(&before).cloned().collect();
        // What NOTES.txt says.
        let kept = |line: &String| line.starts_with("CustomResourceDefinition ");
        if left.iter().all(kept) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{left:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    eprintln!("the story took {:.1} s", terminal.begun.elapsed().as_secs_f64());
    if std::env::var_os("UPDATE_TRANSCRIPT").is_some() {
        let text = format!(
            "What the first day looks like, as the test on a real node ran it (UPDATE_TRANSCRIPT=1):\n\n```\n{}```\n",
            terminal.transcript.trim_start()
        );
        std::fs::write(repository().join("docs/first-day.md"), text).unwrap();
    }
}
