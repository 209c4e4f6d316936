//! Which fleet: the one that is named, or else the only one that the caller can see. It refuses to know what is done with it.

use kube::api::{Api, ApiResource, DynamicObject, ListParams};

use super::Refusal;
use super::cluster::{Act, Cluster};
use crate::args::FleetArgs;
use crate::client::printable;
use crate::exit::{Failure, Kind};

/// How many fleets a line names.
const SHOWN: usize = 10;

/// A fleet as its status shows it to administrators.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fleet {
    /// Where its pods and Secrets are.
    pub(super) namespace: String,
    /// The ProxyConfig's name.
    pub(super) name: String,
    /// `status.managementSecretName`.
    pub(super) management_secret: Option<String>,
    /// `status.selector`.
    pub(super) selector: Option<String>,
}

impl Fleet {
    /// Only what is needed is read, so that a newer definition is no obstacle.
    fn read(object: &DynamicObject) -> Self {
        let status = |field: &str| {
            let text = object.data.get("status")?.get(field)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            management_secret: status("managementSecretName"),
            selector: status("selector"),
        }
    }

    /// `NAMESPACE/NAME`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The fleet that the flags name. Without a name: the only one of the namespace, or of all namespaces if none is given and the context's has none.
///
/// # Errors
/// One line: no such fleet, several, or no right to look.
pub(super) async fn fleet(cluster: &Cluster, args: &FleetArgs) -> Result<Fleet, Failure> {
    let given = namespace(args)?;
    let space = given.unwrap_or_else(|| cluster.namespace());
    if let Some(named) = &args.fleet {
        return get(cluster, space, &named.name).await;
    }
    let here = list(cluster, Some(space)).await;
    let found = match here {
        Ok(found) if given.is_some() || !found.is_empty() => found,
        Err(refused) if given.is_some() || !refused.forbidden => return Err(refused.into()),
        _ => list(cluster, None).await.map_err(|refused| unseen(refused, space))?,
    };
    only(found, given, cluster.server())
}

/// Of `--fleet` and `--namespace`, which may not contradict each other.
fn namespace(args: &FleetArgs) -> Result<Option<&str>, Failure> {
    let named = args.fleet.as_ref().and_then(|fleet| fleet.namespace.as_deref());
    match (named, args.namespace.as_deref()) {
        (Some(named), Some(flag)) if named != flag => Err(Failure::new(format_args!(
            "--fleet names the namespace {named}, --namespace {flag}: give one of them"
        ))),
        (named, flag) => Ok(named.or(flag)),
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<crds::ProxyConfig>(&())
}

async fn get(cluster: &Cluster, space: &str, name: &str) -> Result<Fleet, Failure> {
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), space, &resource());
    let cannot = format!("cannot find the fleet {space}/{name}");
    let right = format!("get on proxyconfigs.llm-proxy.dev in namespace {space}");
    let act = Act {
        cannot: &cannot,
        right: &right,
    };
    match cluster.ask(api.get_opt(name), act).await? {
        Some(object) => Ok(Fleet::read(&object)),
        None => Err(Failure::of(
            Kind::NotFound,
            format_args!(
                "there is no fleet {name} in namespace {space} of {}: `kubectl get proxyconfigs -A` lists them",
                cluster.server()
            ),
        )),
    }
}

async fn list(cluster: &Cluster, space: Option<&str>) -> Result<Vec<Fleet>, Refusal> {
    let resource = resource();
    let (api, place): (Api<DynamicObject>, _) = match space {
        Some(space) => (Api::namespaced_with(cluster.client(), space, &resource), format!("in namespace {space}")),
        None => (Api::all_with(cluster.client(), &resource), "in all namespaces".to_owned()),
    };
    let cannot = format!("cannot look for fleets {place}");
    let right = format!("list on proxyconfigs.llm-proxy.dev {place}");
    let act = Act {
        cannot: &cannot,
        right: &right,
    };
    match cluster.ask(api.list(&ListParams::default()), act).await {
        Ok(found) => Ok(found.items.iter().map(Fleet::read).collect()),
        Err(refused) if refused.kind == Kind::NotFound => Err(Refusal {
            kind: Kind::NotFound,
            forbidden: false,
            why: format!(
                "the cluster at {} has no ProxyConfigs: is llm-proxy installed in it? else check --context",
                cluster.server()
            ),
        }),
        Err(refused) => Err(refused),
    }
}

/// Who may look only where his fleet is has to say where.
fn unseen(refused: Refusal, space: &str) -> Refusal {
    if !refused.forbidden {
        return refused;
    }
    Refusal {
        why: format!(
            "no fleet to be seen in namespace {space}, and {}: name it by --fleet NAMESPACE/NAME",
            refused.why
        ),
        ..refused
    }
}

/// The one fleet among those that were found.
fn only(found: Vec<Fleet>, space: Option<&str>, server: &str) -> Result<Fleet, Failure> {
    let place = space.map_or_else(|| format!("in {server}"), |space| format!("in namespace {space}"));
    let mut names: Vec<String> = found.iter().map(|fleet| printable(&fleet.full_name())).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(fleet), None) => Ok(fleet),
        (None, _) => Err(Failure::of(
            Kind::NotFound,
            format_args!("there is no fleet {place}: apply a ProxyConfig, or check --context and --namespace"),
        )),
        (Some(_), Some(_)) => {
            names.sort_unstable();
            let rest = names.len().saturating_sub(SHOWN);
            names.truncate(SHOWN);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            Err(Failure::new(format_args!(
                "there are several fleets {place}: {}{more}: name one by --fleet NAMESPACE/NAME",
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::FleetName;

    fn fleet(namespace: &str, name: &str) -> Fleet {
        Fleet {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            management_secret: None,
            selector: None,
        }
    }

    #[test]
    fn several_fleets_are_listed_in_one_line_and_none_is_not_found() {
        assert_eq!(only(vec![fleet("a", "x")], None, "s").unwrap().full_name(), "a/x");
        let several = only(vec![fleet("b", "y"), fleet("a", "x")], None, "s").unwrap_err();
        assert_eq!(several.kind(), Kind::Other);
        assert_eq!(
            several.report(),
            "error: there are several fleets in s: a/x, b/y: name one by --fleet NAMESPACE/NAME\n"
        );
        let many = (0..12).map(|number| fleet("a", &format!("f{number:02}"))).collect();
        assert!(only(many, None, "s").unwrap_err().report().contains("a/f09 and 2 more:"));
        let none = only(vec![], Some("a"), "s").unwrap_err();
        assert_eq!((none.kind(), none.report().contains("in namespace a")), (Kind::NotFound, true));
    }

    #[test]
    fn two_namespaces_contradict_each_other() {
        let args = |flag: Option<&str>| FleetArgs {
            fleet: Some(FleetName {
                namespace: Some("a".to_owned()),
                name: "x".to_owned(),
            }),
            namespace: flag.map(str::to_owned),
            ..FleetArgs::default()
        };
        assert_eq!(namespace(&args(None)).unwrap(), Some("a"));
        assert_eq!(namespace(&args(Some("a"))).unwrap(), Some("a"));
        assert!(namespace(&args(Some("b"))).is_err());
    }

    #[test]
    fn a_status_is_read_as_far_as_it_is_there() {
        let object = |status: serde_json::Value| {
            let text = serde_json::json!({
                "apiVersion": "llm-proxy.dev/v1alpha1", "kind": "ProxyConfig", "metadata": {"namespace": "a", "name": "x"}, "status": status,
            });
            Fleet::read(&serde_json::from_value(text).unwrap())
        };
        assert_eq!(object(serde_json::json!(null)), fleet("a", "x"));
        assert_eq!(object(serde_json::json!({"selector": "", "managementSecretName": 1})), fleet("a", "x"));
        let whole = object(serde_json::json!({"selector": "a=b", "managementSecretName": "m", "unheardOf": {}}));
        assert_eq!((whole.selector.as_deref(), whole.management_secret.as_deref()), (Some("a=b"), Some("m")));
    }
}
