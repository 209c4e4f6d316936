//! The end of namespaces, and what looks like one: nothing waits for the operator, every row of what is gone dies, and no row of what still exists.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crds::{LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::DeleteParams;
use operator::cluster::{Options, Scope};
use serde_json::json;
use testkit::cluster::faults::Fault;
use testkit::cluster::load::create_all;
use testkit::cluster::{Cluster, User, install};

use crate::installation::{Installation, SOON, fleet, project, token, until};

/// How soon every row of what is gone is dead, once the operator can see it. The second of two LISTs comes 5 s after the first.
const DEAD: Duration = Duration::from_secs(10);
/// How long Kubernetes may take to end a namespace on a loaded machine.
const ENDED: Duration = Duration::from_secs(120);

/// What is deleted before the namespace is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    Token,
    Project,
    Secret,
    Fleet,
}

impl First {
    const ALL: [Self; 4] = [Self::Token, Self::Project, Self::Secret, Self::Fleet];

    async fn delete(self, installation: &Installation) {
        match self {
            Self::Token => installation.delete::<WitheringToken>("web").await,
            Self::Project => installation.delete::<LlmProject>("shop").await,
            Self::Secret => installation.delete::<Secret>("web").await,
            Self::Fleet => installation.delete::<ProxyConfig>("main").await,
        }
    }
}

async fn delete_namespace(installation: &Installation) {
    let namespaces = Api::<Namespace>::all(installation.client.clone());
    namespaces.delete(&installation.namespace, &DeleteParams::default()).await.unwrap();
}

async fn namespace_ends(installation: &Installation) {
    let namespaces = Api::<Namespace>::all(installation.client.clone());
    until("the namespace ends", ENDED, async || {
        namespaces.get_opt(&installation.namespace).await.unwrap().is_none()
    })
    .await;
}

/// A namespace with a fleet, a project and a token whose key works.
async fn whole() -> Installation {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    assert!(installation.living_rows().await >= 2);
    installation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_ends_in_any_order_and_its_rows_with_it() {
    let orders = First::ALL.map(|first| async move {
        let installation = whole().await;
        first.delete(&installation).await;
        delete_namespace(&installation).await;
        namespace_ends(&installation).await;
        until(&format!("the rows are dead after {first:?}"), DEAD, async || {
            installation.living_rows().await == 0
        })
        .await;
    });
    futures_util::future::join_all(orders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_ends_without_an_operator_and_its_rows_when_one_is_back() {
    let orders = First::ALL.map(|first| async move {
        let mut installation = whole().await;
        installation.stop().await;
        let key = installation.secret("main-encryption").await.unwrap();
        first.delete(&installation).await;
        delete_namespace(&installation).await;
        namespace_ends(&installation).await;
        assert!(installation.living_rows().await >= 2, "nobody could see it");

        // The fleet went with its namespace; declared again, with its key from a backup, it leads to the same database.
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(installation.namespace.clone());
        Api::all(installation.client.clone())
            .create(&Default::default(), &namespace)
            .await
            .unwrap();
        let restored = Secret {
            metadata: kube::core::ObjectMeta {
                name: key.metadata.name,
                labels: key.metadata.labels,
                annotations: key.metadata.annotations,
                ..Default::default()
            },
            type_: key.type_,
            data: key.data,
            ..Secret::default()
        };
        installation.api::<Secret>().create(&Default::default(), &restored).await.unwrap();
        installation.declare_fleet("main").await;
        installation.start().await;
        until("the fleet is open again", SOON, async || {
            let status = installation.api::<ProxyConfig>().get("main").await.unwrap().status.unwrap_or_default();
            status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "DatabaseReady" && condition.status == "True")
        })
        .await;
        until(&format!("the rows are dead after {first:?}"), DEAD, async || {
            installation.living_rows().await == 0
        })
        .await;
    });
    futures_util::future::join_all(orders).await;
}

/// A platform's namespace with the fleet, and a team's with project and token. The fleet outlives the team.
async fn platform_and_team() -> (Installation, Installation) {
    let platform = Installation::empty().await;
    platform.apply(&platform.database_secret()).await;
    platform.apply(&fleet("main", "  allowedProjects: {from: All}\n")).await;
    let mut team = Installation::empty().await;
    team.share_identity(&platform);
    let shared = project("shop", "main").replace("{name: main}", &format!("{{name: main, namespace: {}}}", platform.namespace));
    team.apply(&shared).await;
    team.apply(&token("web", "ttl: 1h")).await;
    (platform, team)
}

fn looking_at(platform: &Installation, namespaces: &[&Installation]) -> Options {
    let mut options = platform.options();
    options.scope = Scope::Namespaces(
        namespaces
            .iter()
            .map(|installation| installation.namespace.clone())
            .collect::<BTreeSet<_>>(),
    );
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_whose_namespace_ended_while_nobody_looked_is_found_by_difference() {
    let (platform, team) = platform_and_team().await;
    let operator = platform.operator(looking_at(&platform, &[&platform, &team]));
    team.token_is("web", "True Issued").await;
    let key = team.key("web").await.unwrap();
    operator.stop().await;
    delete_namespace(&team).await;
    namespace_ends(&team).await;
    assert!(platform.serves(&key).await);
    let _operator = platform.operator(looking_at(&platform, &[&platform, &team]));
    until("the key is dead", DEAD + Duration::from_secs(5), async || !platform.serves(&key).await).await;
    until("all rows are", DEAD, async || platform.living_rows().await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_looks_at_fewer_namespaces_revokes_nothing_in_the_others() {
    let (platform, team) = platform_and_team().await;
    let operator = platform.operator(looking_at(&platform, &[&platform, &team]));
    platform.apply(&project("own", "main")).await;
    platform.apply(&crate::installation::token_of("own", "canary", "ttl: 1h")).await;
    platform.token_is("canary", "True Issued").await;
    team.token_is("web", "True Issued").await;
    let (canary, key) = (platform.key("canary").await.unwrap(), team.key("web").await.unwrap());
    operator.stop().await;
    platform.delete::<WitheringToken>("canary").await;
    let _operator = platform.operator(looking_at(&platform, &[&platform]));
    until("what is gone is found", DEAD + Duration::from_secs(5), async || {
        !platform.serves(&canary).await
    })
    .await;
    assert!(platform.serves(&key).await, "and what is not looked at is not gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_half_way_revokes_nothing() {
    let mut installation = whole().await;
    installation.issued("zz", "ttl: 1h").await;
    let (gone, last) = (installation.key("web").await.unwrap(), installation.key("zz").await.unwrap());
    installation.stop().await;
    installation.delete::<WitheringToken>("web").await;
    // More than one page, and the last one on the second.
    let idle = |number: usize| -> WitheringToken {
        let name = format!("idle-{number:03}");
        serde_json::from_value(json!({"apiVersion": "llm-proxy.dev/v1alpha1", "kind": "WitheringToken",
            "metadata": {"name": name, "namespace": installation.namespace},
            "spec": {"projectRef": {"name": "shop"}, "state": "Suspended"}}))
        .unwrap()
    };
    create_all(&installation.client, (0..260).map(idle), 16).await;

    let door = installation.cluster.door(User::Operator);
    let fault = door.inject("GET", "continue=", None, Fault::Answer(500));
    let _operator = installation.operator_through(door.client(), installation.options());
    until("the second page was asked for", SOON, async || fault.hits() >= 2).await;
    assert!(
        installation.serves(&last).await && installation.serves(&gone).await,
        "nothing is known, so nothing is done"
    );
    fault.withdraw();
    until("what is gone is found", DEAD + SOON, async || !installation.serves(&gone).await).await;
    assert!(installation.serves(&last).await);
}

/// Removes one key behind the API server's back.
fn remove_from_etcd(cluster: &Cluster, key: &str) {
    let body = json!({"key": STANDARD.encode(key)}).to_string();
    let mut connection = TcpStream::connect(cluster.etcd_address()).unwrap();
    let head = format!(
        "POST /v3/kv/deleterange HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""deleted":"1""#), "{answer}");
}

/// The name of the definition that goes.
const DEFINITION: &str = "witheringtokens.llm-proxy.dev";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_is_installed_again_revokes_nothing_that_still_exists() {
    let cluster: &'static Cluster = Box::leak(Box::new(tokio::task::block_in_place(Cluster::start)));
    let mut installation = Installation::empty_on(cluster).await;
    installation.declare_fleet("main").await;
    installation.apply(&project("shop", "main")).await;
    installation.start().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    let kubectl = |args: &[&str]| tokio::task::block_in_place(|| cluster.kubectl(args)).ok();
    let definition = install::definitions().join("witheringtokens.llm-proxy.dev.yaml");
    let reinstall = || {
        let _ = kubectl(&["apply", "--server-side", "--force-conflicts", "-f", definition.to_str().unwrap()]);
        let _ = kubectl(&["wait", "--for=condition=Established", &format!("crd/{DEFINITION}"), "--timeout=30s"]);
    };

    // Without its finalizer the definition goes and the objects stay behind it. The API server puts the finalizer back when it is asked to
    // delete, so it is not asked.
    let mark = cluster.audit_mark();
    remove_from_etcd(cluster, &format!("/registry/apiextensions.k8s.io/customresourcedefinitions/{DEFINITION}"));
    // The API server ends the watch of a definition that is gone only after a minute; who starts now lists.
    installation.stop().await;
    installation.start().await;
    until("the operator has listed what is not served", SOON, async || {
        let asked = cluster.audit_since(mark);
        asked
            .iter()
            .any(|entry| entry.user == "operator" && entry.resource == "witheringtokens" && entry.verb == "list" && entry.code == 404)
    })
    .await;
    assert!(installation.serves(&key).await);
    reinstall();
    installation.token_is("web", "True Issued").await;
    installation.nudge("web").await;
    installation.issued("second", "ttl: 1h").await;
    assert_eq!(installation.key("web").await, Some(key.clone()));
    assert!(installation.serves(&key).await);

    // Deleted plainly, it takes its objects along: those are gone, and nothing else.
    let _ = kubectl(&["delete", "crd", DEFINITION]);
    until("its keys are dead", DEAD + SOON, async || !installation.serves(&key).await).await;
    assert_eq!(installation.number("SELECT count(*) FROM projects WHERE state = 'Active'").await, 1);
    installation.stop().await;
    reinstall();
    installation.start().await;
    // Nobody collects garbage here.
    installation.delete::<Secret>("web").await;
    installation.apply(&token("web", "ttl: 1h")).await;
    installation.token_is("web", "True Issued").await;
    assert!(installation.serves(&installation.key("web").await.unwrap()).await);
}
