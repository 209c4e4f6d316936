//! The node itself: a pod of our image runs under the strictest rules, a Service leads to it by address and by name, and nothing is left behind.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::cluster::node::{Network, Node};
use testkit::cluster::{Cluster, User};

use crate::site::{RESTRICTED, Site};
use crate::stage::await_ready;
use crate::traces::Traces;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: proxy, labels: {app: proxy}}
spec:
  automountServiceAccountToken: false
  containers:
  - name: proxy
    image: llm-proxy:tests
    imagePullPolicy: Never
    args: [server, --addr=0.0.0.0:8080, --db=/data/llm-proxy.db]
    env: [{name: MANAGEMENT_TOKEN, value: for-this-test-only}]
    readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
    securityContext:
      runAsNonRoot: true
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: proxy}
spec:
  selector: {app: proxy}
  ports: [{port: 80, targetPort: 8080}]
---
# A client by the Service's name, which is not there yet when it starts.
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  automountServiceAccountToken: false
  restartPolicy: OnFailure
  containers:
  - name: client
    image: llm-proxy:tests
    imagePullPolicy: Never
    args: [manage, project, list, --manage-api-base-url=http://proxy.NAMESPACE.svc]
    env: [{name: MANAGEMENT_TOKEN, value: for-this-test-only}]
    securityContext:
      runAsNonRoot: true
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
"#;

/// What `kubectl wait` waits for, or what became of the pods instead.
fn await_pod(cluster: &Cluster, namespace: &str, pod: &str, condition: &str) {
    let answer = cluster.kubectl(&["-n", namespace, "wait", condition, pod, "--timeout=90s"]);
    let asked = |args: &[&str]| cluster.kubectl(&[&["-n", namespace][..], args].concat()).stdout;
    assert!(
        answer.success,
        "{}\n{}\n{}",
        answer.stderr,
        asked(&["describe", pod]),
        asked(&["logs", pod, "--tail=50"])
    );
}

#[test]
fn a_pod_of_our_image_runs_and_its_service_answers_by_address_and_by_name() {
    let Some(site) = Site::shared() else { return };
    let cluster = site.cluster();
    let namespace = cluster.namespace_with_labels(&[RESTRICTED]);
    site.await_account(&namespace);
    let objects = POD.replace("NAMESPACE", &namespace);
    let _ = cluster
        .kubectl_with_input(User::Admin, &["-n", &namespace, "apply", "-f", "-"], &objects)
        .ok();
    await_pod(cluster, &namespace, "pod/proxy", "--for=condition=Ready");
    let address = cluster
        .kubectl(&["-n", &namespace, "get", "service", "proxy", "-o", "jsonpath={.spec.clusterIP}"])
        .ok();
    await_ready(format!("{address}:80").parse().unwrap());
    await_pod(cluster, &namespace, "pod/client", "--for=jsonpath={.status.phase}=Succeeded");
    let _ = site.kubectl(&["delete", "namespace", &namespace, "--wait=false"]).ok();
}

/// Says which process of the test it is: the one that is killed.
const VICTIM: &str = "LLM_PROXY_NODE_VICTIM";

#[test]
fn nothing_is_left_after_a_kill_and_the_next_node_starts() {
    if std::env::var_os(VICTIM).is_some() {
        be_killed();
        return;
    }
    // Before the kill and after it: whoever leaves something behind is in the way of the next.
    let Some(site) = Site::shared() else { return };
    let name = std::thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", &name, "--nocapture"]).env(VICTIM, "1").stdout(Stdio::piped());
    let mut victim = victim.spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.contains("victim "))
        .expect("the victim has a node");
    let words: Vec<&str> = line.split("victim ").nth(1).unwrap().split(' ').collect();
    let of_victim = Traces {
        network: Network::numbered(words[0].parse().unwrap()),
        folder: words[1].into(),
        group: words[2].to_owned(),
    };
    for kind in ["address", "route", "control group", "process", "folder"] {
        assert!(
            of_victim.now().iter().any(|trace| trace.starts_with(kind)),
            "{kind}: {:#?}",
            of_victim.now()
        );
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    of_victim.until_gone();
    // Not what belongs to another.
    assert!(!Traces::of(&site.node).now().is_empty());
    assert_eq!(site.kubectl(&["get", "nodes", "-o", "name"]).ok(), "node/node1\n");
}

/// A node with a pod on it, so that there are containers, mounts, an address and rules; until somebody kills this process.
fn be_killed() {
    let Some(node) = Node::start_where_possible() else { return };
    let cluster = node.cluster();
    let wait = ["wait", "serviceaccount/default", "--for=create", "--timeout=60s"];
    let _ = cluster.kubectl(&wait).ok();
    let sleeper = [
        "run",
        "sleeper",
        "--image=llm-proxy-tests/pause:1",
        "--image-pull-policy=Never",
        "--port=80",
        "--expose",
    ];
    let _ = cluster.kubectl(&sleeper).ok();
    await_pod(cluster, "default", "pod/sleeper", "--for=condition=Ready");
    let traces = Traces::of(&node);
    println!("victim {} {} {}", traces.network.number(), traces.folder.display(), traces.group);
    std::thread::sleep(Duration::from_secs(600));
}
