//! Which objects exist, by the API server's own complete word: uids from paginated LISTs of metadata. A LIST that fails anywhere is no LIST.
//! It refuses to know what follows from an object's absence.

use std::collections::HashSet;

use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use store::ResourceUid;

use super::failure::{ApiFailure, api};
use super::scope::Scope;

/// How many objects one page holds.
const PAGE: u32 = 250;

/// The uids of all objects of a kind in scope.
///
/// # Errors
/// [`ApiFailure`], and then nothing is known: also where the kind is not served (any more), or a page came too late.
pub(crate) async fn uids<K>(client: &Client, scope: &Scope) -> Result<HashSet<ResourceUid>, ApiFailure>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut found = HashSet::new();
    match scope {
        Scope::Cluster => pages(&Api::<K>::all(client.clone()), &mut found).await?,
        Scope::Namespaces(names) => {
            for name in names {
                pages(&Api::<K>::namespaced(client.clone(), name), &mut found).await?;
            }
        }
    }
    Ok(found)
}

async fn pages<K>(objects: &Api<K>, found: &mut HashSet<ResourceUid>) -> Result<(), ApiFailure>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    // Without a resourceVersion a LIST is as fresh as a read can be, and its further pages are of the same moment.
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api(objects.list_metadata(&page)).await?;
        found.extend(list.items.into_iter().filter_map(|object| object.metadata.uid).map(ResourceUid::new));
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(()),
        }
    }
}
