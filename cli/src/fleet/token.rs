//! A fleet's management token, out of its Secret and with the caller's own right to read that.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use secrecy::SecretString;

use super::cluster::{Act, Cluster};
use super::find::Fleet;
use crate::exit::{Failure, Kind};

/// Where it stands in the Secret.
const KEY: &str = "token";

/// Reads it.
///
/// # Errors
/// One line: the fleet names no Secret yet, it is not there or not to be read, or it holds no token.
pub(super) async fn management_token(cluster: &Cluster, fleet: &Fleet) -> Result<SecretString, Failure> {
    let named = fleet.management_secret.as_deref();
    let Some(name) = named.filter(|name| crds::names::dns_subdomain(name).is_ok()) else {
        return Err(Failure::new(format_args!(
            "the fleet {} has no management Secret yet: does the operator run? `kubectl describe proxyconfig -n {} {}` says where it stands",
            fleet.full_name(),
            fleet.namespace,
            fleet.name
        )));
    };
    let secret = format!("{}/{name}", fleet.namespace);
    let cannot = format!("cannot read the management Secret {secret}");
    let right = format!("get on secrets in namespace {}", fleet.namespace);
    let act = Act {
        cannot: &cannot,
        right: &right,
    };
    let api: Api<Secret> = Api::namespaced(cluster.client(), &fleet.namespace);
    let mut found = cluster.ask(api.get(name), act).await?;
    let value = found.data.as_mut().and_then(|data| data.remove(KEY));
    let token = value
        .and_then(|value| String::from_utf8(value.0).ok())
        .map(|token| SecretString::from(token.trim()));
    token
        .filter(|token| !secrecy::ExposeSecret::expose_secret(token).is_empty())
        .ok_or_else(|| {
            Failure::of(
                Kind::NotFound,
                format_args!("the management Secret {secret} holds no token under the key {KEY}: delete it, and the operator makes another"),
            )
        })
}
