//! The node itself: a pod of our image runs, a Service leads to it, and nothing is left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::cluster::User;
use testkit::cluster::node::Node;
use testkit::image::{self, Recipe};
use testkit::{program, wait};

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
"#;

#[test]
fn a_pod_of_our_image_runs_and_its_service_answers_by_name() {
    let Some(node) = Node::start_where_possible() else { return };
    let recipe = Recipe {
        binary: &program::path(),
        path: "/usr/bin/llm-proxy",
        name: "llm-proxy:tests",
        arguments: &["--help"],
    };
    let begun = Instant::now();
    let image = image::write(&recipe, &node.scratch("image.tar")).unwrap();
    node.import(&image);
    eprintln!("image of {} bytes made and imported in {:.1} s", image.size, begun.elapsed().as_secs_f64());
    let cluster = node.cluster();
    let namespace = cluster.namespace_with_labels(&[("pod-security.kubernetes.io/enforce", "restricted")]);
    let begun = Instant::now();
    wait::until("the default ServiceAccount", wait::SOON, || {
        cluster.kubectl(&["-n", &namespace, "get", "serviceaccount", "default"]).success
    });
    let _ = cluster.kubectl_with_input(User::Admin, &["-n", &namespace, "apply", "-f", "-"], POD).ok();
    let ready = cluster.kubectl(&["-n", &namespace, "wait", "--for=condition=Ready", "pod/proxy", "--timeout=60s"]);
    if !ready.success {
        panic!("{}{}", ready.stderr, cluster.kubectl(&["-n", &namespace, "describe", "pods"]).stdout);
    }
    eprintln!("the pod is Ready after {:.1} s", begun.elapsed().as_secs_f64());
    let address = cluster.kubectl(&["-n", &namespace, "get", "service", "proxy", "-o", "jsonpath={.spec.clusterIP}"]).ok();
    wait::until("the Service answers", Duration::from_secs(20), || {
        std::net::TcpStream::connect((address.as_str(), 80)).is_ok()
    });
    // A client in a pod of the same image, by the Service's name.
    let url = format!("--manage-api-base-url=http://proxy.{namespace}.svc");
    let args = ["-n", &namespace, "run", "client", "--image=llm-proxy:tests", "--image-pull-policy=Never", "--restart=Never", "--attach", "--quiet"];
    let _ = (args, url);
    assert!(Path::new("/proc").exists());
}
