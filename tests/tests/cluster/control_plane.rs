//! The control plane itself: it serves our definitions, knows its users, breaks where it is told to, and leaves nothing behind.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crds::WitheringToken;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Error};
use testkit::cluster::audit::Entry;
use testkit::cluster::faults::Fault;
use testkit::cluster::load::{create_all, foreign_secrets};
use testkit::cluster::rights::{Right, granted_to_operator};
use testkit::cluster::{Cluster, User};
use testkit::wait;

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> u16 {
    match answer {
        Err(Error::Api(status)) => status.code,
        other => panic!("not an answer of the API server: {other:?}"),
    }
}

fn config_map(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object
}

#[tokio::test]
async fn our_kinds_are_served_and_everybody_has_their_own_rights() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let tokens = |user| Api::<WitheringToken>::namespaced(cluster.client(user), &namespace);
    for user in [User::Admin, User::Operator, User::Editor] {
        assert!(tokens(user).list(&ListParams::default()).await.unwrap().items.is_empty(), "{user:?}");
    }
    assert_eq!(code(tokens(User::NamespacedOperator).list(&ListParams::default()).await), 403);
    cluster.let_operate_in(&namespace);
    // The authorizer learns of a new binding by a watch of its own.
    let begun = Instant::now();
    while let Err(error) = tokens(User::NamespacedOperator).list(&ListParams::default()).await {
        assert!(begun.elapsed() < wait::SOON, "{error}");
    }
    let elsewhere = Api::<Secret>::namespaced(cluster.client(User::NamespacedOperator), "default");
    assert_eq!(code(elsewhere.list(&ListParams::default()).await), 403);
    let name = cluster.kubectl_as(User::Operator, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
    assert_eq!(name.ok(), "operator");
}

#[tokio::test]
async fn the_audit_log_says_who_wrote_what_since_a_mark() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let secrets = Api::<Secret>::namespaced(cluster.client(User::Editor), &namespace);
    let mut secret = foreign_secrets(&namespace, 1, 10).next().unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let mark = cluster.audit_mark();
    secrets.list(&ListParams::default()).await.unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    secret.metadata.name = Some("second".to_owned());
    secrets.create(&dry, &secret).await.unwrap();
    let patch = serde_json::json!({ "metadata": { "labels": { "a": "b" } } });
    secrets
        .patch("foreign-00000", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(code(secrets.patch("absent", &PatchParams::default(), &Patch::Merge(&patch)).await), 404);
    let after = cluster.audit_mark();
    secrets.delete("foreign-00000", &Default::default()).await.unwrap();

    let mut entries = cluster.audit_between(mark, after);
    entries.retain(|entry| entry.namespace == namespace && entry.user == "editor");
    let lines: Vec<String> = entries.iter().map(Entry::line).collect();
    let wanted = [
        "list secrets {}/ 200",
        "create secrets {}/second 201",
        "patch secrets {}/foreign-00000 200",
        "patch secrets {}/absent 404",
    ];
    assert_eq!(lines, wanted.map(|line| line.replace("{}", &namespace)));
    assert_eq!(entries.iter().map(Entry::is_write).collect::<Vec<_>>(), [false, false, true, true]);
    let late = cluster.audit_mark();
    let _ = cluster.kubectl(&["get", "secrets", "-n", &namespace]);
    let agents = cluster
        .audit_since(late)
        .into_iter()
        .filter(|entry| entry.namespace == namespace)
        .map(|entry| entry.user_agent);
    assert!(agents.collect::<Vec<_>>().iter().any(|agent| agent.starts_with("kubectl/v1.36")));
    let writes = cluster.writes_since(User::Editor, mark);
    let here: Vec<&str> = writes
        .iter()
        .filter(|entry| entry.namespace == namespace)
        .map(|entry| entry.verb.as_str())
        .collect();
    assert_eq!(here, ["patch", "patch", "delete"]);
}

#[tokio::test]
async fn the_audit_log_says_which_rights_were_used_and_what_was_denied() {
    let cluster = Cluster::start();
    let mark = cluster.audit_mark();
    let client = cluster.client(User::Operator);
    let secrets = Api::<Secret>::namespaced(client.clone(), "default");
    secrets.list_metadata(&ListParams::default()).await.unwrap();
    let object = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "applied"}});
    secrets
        .patch("applied", &PatchParams::apply("tests"), &Patch::Apply(&object))
        .await
        .unwrap();
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    assert_eq!(code(maps.get("kept").await), 403);
    let used = cluster.rights_used_since(User::Operator, mark);
    let line = |right: &Right| format!("{} {}", right.verb, right.resource);
    assert_eq!(
        used.iter().map(line).collect::<Vec<_>>(),
        ["create secrets", "list secrets", "patch secrets"]
    );
    let granted = granted_to_operator();
    assert!(used.is_subset(&granted) && granted.iter().any(|right| line(right) == "patch witheringtokens/status"));
    let denied = cluster.denied_since(User::Operator, mark);
    assert_eq!(denied.iter().map(Entry::line).collect::<Vec<_>>(), ["get configmaps default/kept 403"]);
}

#[tokio::test]
async fn a_namespace_that_is_deleted_ends_with_what_is_in_it_and_what_has_an_owner_is_collected() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let client = cluster.client(User::Admin);
    let token = format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {{name: app, namespace: {namespace}}}\nspec: {{projectRef: {{name: shop}}}}\n"
    );
    cluster.kubectl_with_input(User::Editor, &["apply", "-f", "-"], &token).ok();
    let tokens = Api::<WitheringToken>::namespaced(client.clone(), &namespace);
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let mut secret = foreign_secrets(&namespace, 1, 10).next().unwrap();
    let owner = kube::Resource::controller_owner_ref(&tokens.get("app").await.unwrap(), &()).unwrap();
    secret.metadata.owner_references = Some(vec![owner]);
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    tokens.delete("app", &Default::default()).await.unwrap();
    let begun = Instant::now();
    while secrets.get_opt("foreign-00000").await.unwrap().is_some() {
        assert!(begun.elapsed() < wait::SOON, "the garbage collector does not collect");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.kubectl_with_input(User::Editor, &["apply", "-f", "-"], &token).ok();
    let namespaces = Api::<Namespace>::all(client);
    namespaces.delete(&namespace, &Default::default()).await.unwrap();
    while namespaces.get_opt(&namespace).await.unwrap().is_some() {
        assert!(begun.elapsed() < wait::SOON * 2, "the namespace does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_api_server_that_stops_or_stalls_comes_back_with_its_data_at_the_same_address() {
    let mut cluster = Cluster::start();
    let (address, folder) = (cluster.address(), cluster.folder().to_owned());
    let maps = Api::<ConfigMap>::namespaced(cluster.client(User::Admin), "default");
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    cluster.stop_api_server();
    assert!(!cluster.is_ready() && cluster.api_server_pid().is_none());
    assert!(!matches!(maps.get("kept").await.unwrap_err(), Error::Api(_)));
    cluster.start_api_server();
    assert_eq!(cluster.address(), address);
    maps.get("kept").await.unwrap();
    cluster.pause_api_server();
    assert!(!cluster.is_ready());
    cluster.resume_api_server();
    maps.get("kept").await.unwrap();
    drop(cluster);
    assert!(std::net::TcpStream::connect(address).is_err() && !folder.exists());
}

#[tokio::test]
async fn a_door_answers_delays_and_cuts_what_it_is_told_to() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let door = cluster.door(User::Admin);
    let maps = Api::<ConfigMap>::namespaced(door.client(), &namespace);
    maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
    for status in [409, 410, 429, 500] {
        let fault = door.inject("GET", "/configmaps/one", Some(1), Fault::Answer(status));
        assert_eq!(code(maps.get("one").await), status);
        assert_eq!(fault.hits(), 1);
        maps.get("one").await.unwrap();
    }
    let slow = door.inject("GET", "/configmaps/one", None, Fault::Delay(Duration::from_millis(300)));
    let begun = Instant::now();
    maps.get("one").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    slow.withdraw();

    // Lost on the way there, and on the way back.
    let before = door.inject("POST", "/configmaps", Some(1), Fault::CutBefore);
    maps.create(&PostParams::default(), &config_map("never")).await.unwrap_err();
    drop(before);
    let after = door.inject("POST", "/configmaps", Some(1), Fault::CutAfter);
    maps.create(&PostParams::default(), &config_map("unheard")).await.unwrap_err();
    drop(after);
    assert!(maps.get_opt("never").await.unwrap().is_none() && maps.get_opt("unheard").await.unwrap().is_some());

    let expired = door.inject("GET", "watch=true", Some(1), Fault::WatchExpired);
    let first = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed().next().await;
    assert!(matches!(&first, Some(Ok(WatchEvent::Error(status))) if status.code == 410), "{first:?}");
    drop(expired);
    let mut watch = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    door.cut_all();
    let rest = tokio::time::timeout(wait::SOON, watch.collect::<Vec<_>>()).await.expect("the watch ends");
    assert!(rest.iter().all(|event| !matches!(event, Ok(WatchEvent::Error(_)))), "{rest:?}");
    door.refuse(true);
    maps.get("one").await.unwrap_err();
    door.refuse(false);
    maps.get("one").await.unwrap();
    // A process is led through it by its kubeconfig, and is who it is.
    let mut kubectl = Command::new(cluster.kubectl_path());
    let output = kubectl
        .args(["auth", "whoami", "-o", "name", "--kubeconfig"])
        .arg(door.kubeconfig())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_test_process_that_is_killed_takes_its_control_plane_along() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    // The command says where the control plane is, and stays.
    run.args(["run", "sh", "-c", "echo $KUBECONFIG; exec cat"]);
    run.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(run.stdout.take().unwrap()), &mut line).unwrap();
    let folder = std::path::Path::new(line.trim()).parent().unwrap().to_owned();
    let processes: BTreeMap<String, u32> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(path).unwrap().trim().parse().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        processes.keys().collect::<Vec<_>>(),
        ["etcd", "kube-apiserver", "kube-controller-manager"]
    );
    run.kill().unwrap();
    run.wait().unwrap();
    wait::until("the processes are gone and the folder with them", wait::SOON, || {
        let alive =
            |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&*folder.to_string_lossy()));
        !folder.exists() && !processes.values().any(alive)
    });
}

#[tokio::test]
async fn a_deployment_makes_pods_that_are_ready_when_the_test_says_so() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    cluster
        .kubectl(&["create", "deployment", "fleet", "--image=none", "--replicas=2", "-n", &namespace])
        .ok();
    let ready = || {
        let args = ["get", "deployment", "fleet", "-n", &namespace, "-o", "jsonpath={.status.readyReplicas}"];
        cluster.kubectl(&args).ok()
    };
    wait::until("there are two Pods", wait::SOON, || cluster.set_pods_ready(&namespace, true) == 2);
    wait::until("both are seen ready", wait::SOON, || ready() == "2");
    cluster.set_pods_ready(&namespace, false);
    wait::until("none is seen ready", wait::SOON, || ready().is_empty());
}

#[tokio::test]
async fn twenty_thousand_foreign_secrets_fit_and_are_made_in_reasonable_time() {
    let (count, bytes) = if wait::long_variant() { (20_000, 50 * 1024) } else { (100, 50 * 1024) };
    let cluster = Cluster::options().with_etcd_quota(8 << 30).start();
    let client = cluster.client(User::Admin);
    let took = create_all(&client, foreign_secrets("default", count, bytes), 32).await;
    eprintln!("{count} Secrets of {bytes} bytes: {took:?}");
    let secrets = Api::<Secret>::namespaced(client, "default");
    let mut seen = 0;
    let mut page = ListParams::default().limit(500);
    loop {
        let part = secrets.list_metadata(&page).await.unwrap();
        seen += part.items.len();
        match part.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(seen, count);
}
