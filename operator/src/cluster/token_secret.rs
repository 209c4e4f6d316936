//! A token's Secret: how it is built, how an existing one is changed, and what a found one says. Pure.
//! It refuses to know whether it may be written and whether its value lives.

use std::collections::BTreeMap;

use crds::{API_VERSION, Kind, SecretFormat};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use store::TokenValue;

use crate::effect::{SecretVersion, SecretWrite};
use crate::object::Object;
use crate::observed::{SecretContent, SecretSeen};

/// The type of every Secret that holds a token. It cannot be changed on a Secret that stands.
pub(crate) const TYPE: &str = "llm-proxy.dev/token";
/// The annotation that names the uid of the token that a Secret was written for.
pub(crate) const UID: &str = "llm-proxy.dev/uid";
/// The label that names the token.
pub(crate) const TOKEN: &str = "llm-proxy.dev/token";
/// The label that every tool reads to learn who manages an object.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The key of [`SecretFormat::Raw`].
const RAW: &str = "token";
/// The keys of [`SecretFormat::OpenAI`].
const OPENAI_KEY: &str = "OPENAI_API_KEY";
const OPENAI_URL: &str = "OPENAI_BASE_URL";

/// The longest value of a label.
const MAX_LABEL: usize = 63;

/// A Secret under a name that a token wants or has.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What the core is told.
    pub(crate) seen: SecretSeen,
    /// The uid of the token that it was written for, if it is a token's.
    pub(crate) written_for: Option<String>,
    /// Who owns it, as it stands.
    owners: Vec<OwnerReference>,
}

impl Found {
    /// There is none.
    pub(crate) fn absent() -> Self {
        Self {
            seen: SecretSeen::Absent,
            written_for: None,
            owners: Vec::new(),
        }
    }

    /// There is something that the API server does not show us, in its own words.
    pub(crate) fn unreadable(why: String) -> Self {
        Self {
            seen: SecretSeen::Unreadable(why),
            ..Self::absent()
        }
    }

    /// Reads one, for the token of this uid.
    pub(crate) fn read(secret: &Secret, token: &str) -> Self {
        let annotated = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(UID)).cloned();
        let written_for = annotated.filter(|_| secret.type_.as_deref() == Some(TYPE));
        let entry = |key: &str| {
            let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
            Some(std::str::from_utf8(bytes).unwrap_or_default())
        };
        let keys: Vec<&str> = [RAW, OPENAI_KEY].into_iter().filter_map(entry).collect();
        // Somebody who changed one of two keys changed the Secret: it has no value then.
        let value = keys.first().filter(|first| keys.iter().all(|key| key == *first));
        let mut formats = Vec::new();
        if entry(RAW).is_some() {
            formats.push(SecretFormat::Raw);
        }
        if entry(OPENAI_KEY).is_some() || entry(OPENAI_URL).is_some() {
            formats.push(SecretFormat::OpenAI);
        }
        let is_ours = written_for.as_deref() == Some(token);
        let owners = secret.metadata.owner_references.clone().unwrap_or_default();
        Self {
            seen: SecretSeen::Present(SecretContent {
                version: SecretVersion(secret.metadata.resource_version.clone().unwrap_or_default()),
                value: value.and_then(|value| TokenValue::parse(value).ok()),
                base_url: entry(OPENAI_URL).map(ToOwned::to_owned),
                formats,
                owned: Some(owners.iter().any(|owner| owner.uid == token)),
                is_ours: Some(is_ours),
            }),
            written_for,
            owners,
        }
    }
}

/// The Secret that a token's first write makes.
pub(crate) fn build(token: &Object, write: &SecretWrite) -> Secret {
    Secret {
        metadata: ObjectMeta {
            namespace: Some(token.namespace.clone()),
            name: Some(write.name.clone()),
            labels: Some(labels(token)),
            annotations: Some(annotations(token)),
            owner_references: write.owned.then(|| vec![owner(token)]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(
            data(write)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// The merge patch that turns the found Secret into what it should be, if it still is the version that was decided on. What others have added
/// stays.
pub(crate) fn patch(token: &Object, write: &SecretWrite, expected: &SecretVersion, found: Option<&Found>) -> Value {
    let wanted = data(write);
    let mut entries = Map::new();
    for key in [RAW, OPENAI_KEY, OPENAI_URL] {
        let value = wanted
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| json!(ByteString(value.as_bytes().to_vec())));
        // Null takes a key away, and is nothing where there is none.
        entries.insert(key.to_owned(), value.unwrap_or_default());
    }
    let mut metadata = json!({
        "resourceVersion": expected.0,
        "labels": labels(token),
        "annotations": annotations(token),
    });
    let owners = found.map(|found| found.owners.as_slice()).unwrap_or_default();
    if write.owned != owners.iter().any(|owner| owner.uid == token.uid.as_str()) {
        let others = owners.iter().filter(|owner| owner.uid != token.uid.as_str()).cloned();
        let all: Vec<OwnerReference> = others.chain(write.owned.then(|| owner(token))).collect();
        metadata["ownerReferences"] = json!(all);
    }
    json!({"metadata": metadata, "data": entries})
}

fn data(write: &SecretWrite) -> Vec<(&'static str, &str)> {
    let mut data = Vec::new();
    for format in &write.formats {
        match format {
            SecretFormat::Raw => data.push((RAW, write.value.expose())),
            SecretFormat::OpenAI => data.extend([(OPENAI_KEY, write.value.expose()), (OPENAI_URL, write.base_url.as_str())]),
        }
    }
    data
}

fn labels(token: &Object) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), super::FIELD_MANAGER.to_owned()),
        (TOKEN.to_owned(), label_value(&token.name)),
    ])
}

fn annotations(token: &Object) -> BTreeMap<String, String> {
    BTreeMap::from([(UID.to_owned(), token.uid.as_str().to_owned())])
}

/// The garbage collector deletes the Secret after its token; the token's deletion does not wait for that.
fn owner(token: &Object) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: Kind::WitheringToken.as_str().to_owned(),
        name: token.name.clone(),
        uid: token.uid.as_str().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// A name as a label's value: itself, or, if it is too long, as much of it as fits and a hash that tells it from others that begin so.
fn label_value(name: &str) -> String {
    if name.len() <= MAX_LABEL {
        return name.to_owned();
    }
    let hash: String = Sha256::digest(name.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept = &name[..name.floor_char_boundary(MAX_LABEL - 1 - hash.len())];
    format!("{}-{hash}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::ResourceUid;

    fn token(name: &str) -> Object {
        Object {
            kind: Kind::WitheringToken,
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: ResourceUid::new("uid-1"),
            generation: 1,
        }
    }

    fn write(formats: &[SecretFormat]) -> SecretWrite {
        SecretWrite {
            name: "llm".to_owned(),
            value: TokenValue::mint(),
            base_url: "http://main.shop.svc:8080/v1".to_owned(),
            formats: formats.to_vec(),
            owned: true,
            repair: false,
            expect: None,
        }
    }

    fn stored(write: &SecretWrite) -> Secret {
        let mut secret = build(&token("web"), write);
        secret.metadata.resource_version = Some("7".to_owned());
        secret
    }

    fn content(found: &Found) -> &SecretContent {
        match &found.seen {
            SecretSeen::Present(content) => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_built_reads_back_in_every_format() {
        for formats in [&[SecretFormat::Raw][..], &[SecretFormat::OpenAI], SecretFormat::ALL] {
            let write = write(formats);
            let found = Found::read(&stored(&write), "uid-1");
            let content = content(&found);
            assert_eq!(content.value.as_ref(), Some(&write.value), "{formats:?}");
            assert_eq!((content.formats.as_slice(), content.is_ours), (formats, Some(true)));
            let has_url = formats.contains(&SecretFormat::OpenAI);
            assert_eq!(content.base_url.as_deref(), has_url.then_some("http://main.shop.svc:8080/v1"));
            assert_eq!(content.version, SecretVersion("7".to_owned()));
        }
    }

    #[test]
    fn a_secret_with_one_of_two_keys_changed_holds_no_value() {
        let mut secret = stored(&write(SecretFormat::ALL));
        let data = secret.data.as_mut().unwrap();
        data.insert(OPENAI_KEY.to_owned(), ByteString(TokenValue::mint().expose().as_bytes().to_vec()));
        assert!(content(&Found::read(&secret, "uid-1")).value.is_none());
    }

    #[test]
    fn only_a_tokens_secret_with_its_uid_is_its_own() {
        let secret = stored(&write(SecretFormat::ALL));
        let other = Found::read(&secret, "uid-2");
        assert_eq!((content(&other).is_ours, other.written_for.as_deref()), (Some(false), Some("uid-1")));

        let mut opaque = secret.clone();
        opaque.type_ = Some("Opaque".to_owned());
        let found = Found::read(&opaque, "uid-1");
        assert_eq!((content(&found).is_ours, found.written_for), (Some(false), None), "of a foreign type");

        let mut bare = secret;
        bare.metadata.annotations = None;
        assert_eq!(content(&Found::read(&bare, "uid-1")).is_ours, Some(false));
        bare.data = None;
        assert!(content(&Found::read(&bare, "uid-1")).value.is_none());
    }

    #[test]
    fn a_patch_names_the_version_and_takes_away_the_keys_of_a_dropped_format() {
        let write = write(&[SecretFormat::Raw]);
        let found = Found::read(&stored(&write), "uid-1");
        let patch = patch(&token("web"), &write, &SecretVersion("7".to_owned()), Some(&found));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch["metadata"].get("ownerReferences").is_none(), "it stands there");
        assert_eq!(patch["data"][OPENAI_KEY], Value::Null);
        assert!(patch["data"][RAW].is_string() && patch["data"].get(OPENAI_URL).is_some());
    }

    #[test]
    fn a_lost_owner_is_put_back_beside_the_others() {
        let write = write(SecretFormat::ALL);
        let mut secret = stored(&write);
        let mut other = owner(&token("web"));
        other.uid = "uid-9".to_owned();
        other.controller = None;
        secret.metadata.owner_references = Some(vec![other]);
        let found = Found::read(&secret, "uid-1");
        let patch = patch(&token("web"), &write, &SecretVersion("7".to_owned()), Some(&found));
        let uids: Vec<&str> = patch["metadata"]["ownerReferences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|owner| owner["uid"].as_str().unwrap())
            .collect();
        assert_eq!(uids, ["uid-9", "uid-1"]);
    }

    #[test]
    fn an_orphans_secret_has_no_owner_and_keeps_those_of_others() {
        let orphan = SecretWrite {
            owned: false,
            ..write(SecretFormat::ALL)
        };
        assert!(build(&token("web"), &orphan).metadata.owner_references.is_none());
        let mut secret = stored(&write(SecretFormat::ALL));
        assert_eq!(content(&Found::read(&secret, "uid-1")).owned, Some(true));
        let mut other = owner(&token("web"));
        other.uid = "uid-9".to_owned();
        secret.metadata.owner_references.as_mut().unwrap().push(other);
        let patch = patch(
            &token("web"),
            &orphan,
            &SecretVersion("7".to_owned()),
            Some(&Found::read(&secret, "uid-1")),
        );
        let owners = patch["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!((owners.len(), owners[0]["uid"].as_str()), (1, Some("uid-9")));
    }

    #[test]
    fn a_long_name_becomes_a_label_that_tells_it_from_its_neighbours() {
        assert_eq!(label_value("web"), "web");
        let (one, two) = (
            label_value(&format!("{}.a", "x".repeat(250))),
            label_value(&format!("{}.b", "x".repeat(250))),
        );
        assert!(one != two && one.len() <= 63 && one.starts_with('x'), "{one} {two}");
        let dotted = label_value(&format!("{}.{}", "x".repeat(53), "y".repeat(190)));
        assert!(dotted.starts_with(&format!("{}-", "x".repeat(53))) && dotted.len() <= 63, "{dotted}");
    }
}
