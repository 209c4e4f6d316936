//! What stands on the API server before a test begins: our three definitions and the rights of the users. It refuses to know any test's objects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize as _;

use super::{Cluster, User};

/// The rights of every user, the operator's among them.
const RBAC: &str = include_str!("rbac.yaml");

/// The Role that [`Cluster::let_operate_in`] copies out of the operator's ClusterRole.
const OPERATOR_ROLE: &str = "llm-proxy-operator";

/// The folder of the generated definitions.
#[must_use]
pub fn definitions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/yaml")
}

/// The documents of a YAML text.
///
/// # Panics
/// If it is no YAML, or a document is no Kubernetes object.
#[must_use]
pub fn objects(text: &str) -> Vec<DynamicObject> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|document| serde_yaml::Value::deserialize(document).expect("YAML"));
    let full = documents.filter(|document| !document.is_null());
    full.map(|document| serde_yaml::from_value(document).expect("a Kubernetes object"))
        .collect()
}

/// The ClusterRole of the operator.
///
/// # Panics
/// If rbac.yaml has none.
#[must_use]
pub(super) fn operator_role() -> DynamicObject {
    objects(RBAC)
        .into_iter()
        .find(|object| object.name_any() == OPERATOR_ROLE && object.types.as_ref().is_some_and(|types| types.kind == "ClusterRole"))
        .expect("the operator's ClusterRole")
}

/// Where objects of this kind live. Kinds with an irregular plural are not among ours.
fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().expect("apiVersion and kind");
    let kind = GroupVersionKind::try_from(&types).expect("an apiVersion");
    let resource = ApiResource::from_gvk(&kind);
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies every object of a YAML text, as the tests' own field manager.
///
/// # Errors
/// What the API server says.
pub async fn apply(client: &Client, text: &str) -> kube::Result<()> {
    for object in objects(text) {
        let params = PatchParams::apply("llm-proxy-tests").force();
        api(client, &object).patch(&object.name_any(), &params, &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// Puts definitions and rights on the server, and waits until the definitions are served.
pub(super) async fn install(client: &Client) {
    for text in definition_texts() {
        apply(client, &text).await.expect("the definitions install");
    }
    apply(client, RBAC).await.expect("the rights install");
    for definition in definition_texts().iter().flat_map(|text| objects(text)) {
        let (spec, names) = (&definition.data["spec"], &definition.data["spec"]["names"]);
        let text = |value: &serde_json::Value| value.as_str().expect("a definition").to_owned();
        let resource = ApiResource {
            group: text(&spec["group"]),
            version: text(&spec["versions"][0]["name"]),
            api_version: format!("{}/{}", text(&spec["group"]), text(&spec["versions"][0]["name"])),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]),
        };
        // At first 404, then 429 while its storage is made ready.
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        while let Err(error) = api.list(&ListParams::default()).await {
            assert!(matches!(&error, kube::Error::Api(status) if [404, 429].contains(&status.code)), "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn definition_texts() -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(definitions())
        .expect("crds/yaml")
        .map(|entry| entry.expect("crds/yaml").path())
        .collect();
    files.sort_unstable();
    files.iter().map(|file| std::fs::read_to_string(file).expect("a definition")).collect()
}

impl Cluster {
    /// Gives [`User::NamespacedOperator`] in one namespace what the operator has everywhere, except for what is not in a namespace.
    ///
    /// # Panics
    /// If the API server refuses.
    pub fn let_operate_in(&self, namespace: &str) {
        let role = operator_role();
        let rules: Vec<_> = role.data["rules"].as_array().expect("rules").iter().collect();
        let namespaced = rules
            .into_iter()
            .filter(|rule| !rule["resources"].as_array().is_some_and(|all| all.contains(&"namespaces".into())));
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                    "metadata": { "name": OPERATOR_ROLE, "namespace": namespace },
                    "rules": namespaced.collect::<Vec<_>>(),
                },
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                    "metadata": { "name": OPERATOR_ROLE, "namespace": namespace },
                    "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": OPERATOR_ROLE },
                    "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::NamespacedOperator.name() }],
                },
            ],
        });
        let items = text["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        self.with_admin(|client| async move {
            for item in items {
                apply(&client, &item).await.expect("the rights of a namespace");
            }
        });
    }
}
