//! Many objects at once, through the API server, for figures. It refuses to know what is measured with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;

/// Creates every object in its namespace, `at_once` at a time (32 keep two cores busy), and returns how long that took.
///
/// # Panics
/// If the API server refuses one.
pub async fn create_all<K>(client: &Client, objects: impl IntoIterator<Item = K>, at_once: usize) -> Duration
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
{
    let begun = Instant::now();
    let creating = stream::iter(objects).map(|object| async move {
        let name = object.name_any();
        let path = K::url_path(&(), Some(&object.namespace().expect("a namespace")));
        let body = serde_json::to_vec(&object).expect("JSON");
        // A body that is checked for unknown fields is decoded twice.
        let request = http::Request::post(format!("{path}?fieldValidation=Ignore")).header(http::header::CONTENT_TYPE, "application/json");
        // What was sent need not come back.
        let request = request.header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        if let Err(error) = client.request_text(request.body(body).expect("a request")).await {
            panic!("{name}: {error}");
        }
    });
    creating.buffer_unordered(at_once).collect::<()>().await;
    begun.elapsed()
}

/// `count` Secrets of other people, each with `bytes` of data, of type Opaque, named `foreign-00000` and on.
pub fn foreign_secrets(namespace: &str, count: usize, bytes: usize) -> impl Iterator<Item = Secret> {
    let namespace = namespace.to_owned();
    (0..count).map(move |index| {
        let mut secret = Secret::default();
        secret.metadata.name = Some(format!("foreign-{index:05}"));
        secret.metadata.namespace = Some(namespace.clone());
        secret.data = Some(BTreeMap::from([("blob".to_owned(), ByteString(vec![b'x'; bytes]))]));
        secret
    })
}
