//! The node itself: a pod of our image runs under the strictest rules, a Service leads to it by address and by name, and nothing is left behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::client::{Connection, Request};
use testkit::cluster::node::{Network, Node};
use testkit::cluster::{Cluster, User};
use testkit::{image, program, wait};

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

/// Where this machine could show that a node is or was here: devices, routes, the packet filter, mounts, control groups, processes, folders.
#[derive(Clone, Debug)]
struct Traces {
    network: Network,
    folder: PathBuf,
    group: String,
}

impl Traces {
    fn of(node: &Node) -> Self {
        Self {
            network: node.network(),
            folder: node.cluster().folder().to_owned(),
            group: node.control_group().to_owned(),
        }
    }

    /// What there is now, a line each.
    fn now(&self) -> Vec<String> {
        // find complains of what vanishes while it looks.
        let said = |words: &[&str]| String::from_utf8_lossy(&Command::new(words[0]).args(&words[1..]).output().unwrap().stdout).into_owned();
        let third = self.network.machine().octets()[2];
        let (folder, group) = (self.folder.to_string_lossy().into_owned(), self.group.as_str());
        let addresses = [213, 214, 215].map(|second| format!("10.{second}.{third}."));
        let sources = [
            ("address", said(&["ip", "-o", "-4", "address"])),
            ("route", said(&["ip", "-4", "route", "show", "table", "all"])),
            ("rule", said(&["iptables-save"])),
            ("mount", fs::read_to_string("/proc/self/mounts").unwrap()),
            (
                "control group",
                said(&["find", "/sys/fs/cgroup", "-type", "d", "-path", &format!("*/{group}*")]),
            ),
            ("process", said(&["ps", "-eo", "args"])),
        ];
        let telling = |line: &&str| {
            // The search itself is a process, too.
            let ours = line.contains(&folder) || line.contains(group) || addresses.iter().any(|address| line.contains(address));
            ours && !line.starts_with("ps ")
        };
        let mut found: Vec<String> = Vec::new();
        for (kind, text) in &sources {
            found.extend(text.lines().filter(telling).map(|line| format!("{kind}: {line}")));
        }
        let folders = [
            folder.as_str(),
            "/run/containerd",
            "/var/lib/kubelet",
            "/var/log/pods",
            "/sys/class/net/cni0",
        ];
        found.extend(
            folders
                .iter()
                .filter(|folder| fs::metadata(folder).is_ok())
                .map(|folder| format!("folder: {folder}")),
        );
        found
    }

    fn until_gone(&self) {
        let begun = Instant::now();
        loop {
            let now = self.now();
            if now.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{now:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_pod_of_our_image_runs_and_its_service_answers_by_address_and_by_name() {
    let Some(node) = Node::start_where_possible() else { return };
    let begun = Instant::now();
    let image = image::write(
        &image::Recipe::of_llm_proxy(&program::path(), "llm-proxy:tests"),
        &node.scratch("image.tar"),
    )
    .unwrap();
    node.import(&image);
    eprintln!(
        "image of {} MB made and imported in {:.1} s",
        image.size / 1_000_000,
        begun.elapsed().as_secs_f64()
    );
    let cluster = node.cluster();
    let namespace = cluster.namespace_with_labels(&[("pod-security.kubernetes.io/enforce", "restricted")]);
    wait::until("the default ServiceAccount", wait::SOON, || {
        cluster.kubectl(&["-n", &namespace, "get", "serviceaccount", "default"]).success
    });
    let begun = Instant::now();
    let objects = POD.replace("NAMESPACE", &namespace);
    let _ = cluster
        .kubectl_with_input(User::Admin, &["-n", &namespace, "apply", "-f", "-"], &objects)
        .ok();
    await_pod(cluster, &namespace, "pod/proxy", "--for=condition=Ready");
    eprintln!("its pod is Ready after {:.1} s", begun.elapsed().as_secs_f64());
    let address = cluster
        .kubectl(&["-n", &namespace, "get", "service", "proxy", "-o", "jsonpath={.spec.clusterIP}"])
        .ok();
    let address = format!("{address}:80").parse().unwrap();
    wait::until("the Service answers", Duration::from_secs(30), || {
        let answer = Connection::open(address).and_then(|mut connection| connection.send(&Request::get("/ready")));
        answer.is_ok_and(|answer| answer.status == 200)
    });
    await_pod(cluster, &namespace, "pod/client", "--for=jsonpath={.status.phase}=Succeeded");
}

/// Says which process of the test it is: the one that is killed.
const VICTIM: &str = "LLM_PROXY_NODE_VICTIM";

#[test]
fn nothing_is_left_after_an_end_or_a_kill_and_a_second_start_works() {
    let Some(node) = Node::start_where_possible() else { return };
    // So that there are containers, mounts, an address and rules of a pod.
    wait::until("the default ServiceAccount", wait::SOON, || {
        node.cluster().kubectl(&["get", "serviceaccount", "default"]).success
    });
    let sleeper = [
        "run",
        "sleeper",
        "--image=llm-proxy-tests/pause:1",
        "--image-pull-policy=Never",
        "--port=80",
        "--expose",
    ];
    let _ = node.cluster().kubectl(&sleeper).ok();
    await_pod(node.cluster(), "default", "pod/sleeper", "--for=condition=Ready");
    if std::env::var_os(VICTIM).is_some() {
        let traces = Traces::of(&node);
        println!("victim {} {} {}", traces.network.number(), traces.folder.display(), traces.group);
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
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

    let traces = Traces::of(&node);
    assert!(!traces.now().is_empty());
    let begun = Instant::now();
    drop(node);
    eprintln!("a node is gone after {:.1} s", begun.elapsed().as_secs_f64());
    traces.until_gone();
}
