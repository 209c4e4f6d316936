//! The two Secrets that are made once for a fleet: the management token, which goes with it, and the encryption key, which is retained.
//! It refuses to know when they are made.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret as _, SecretString};
use store::{Claim, SealingKey};

use super::Parent;

/// The key of the management token inside its Secret.
pub(crate) const TOKEN_KEY: &str = "token";
/// The key of the encryption key inside its Secret.
pub(crate) const ENCRYPTION_KEY: &str = "key";
/// On the retained Secret: whose database it opens, as `cluster/namespace/name`, so that a fleet that is made again knows it for its own.
pub(crate) const CLAIM_ANNOTATION: &str = "llm-proxy.dev/claim";

/// The Secret with a fresh management token: 256 random bits, base64url.
pub(crate) fn management(parent: &Parent) -> Secret {
    let random = SealingKey::generate().to_base64();
    let token: SecretString = random.expose_secret().replace('+', "-").replace('/', "_").trim_end_matches('=').into();
    Secret {
        metadata: parent.metadata(&parent.names.management_secret),
        type_: Some("Opaque".to_owned()),
        data: data(TOKEN_KEY, &token),
        ..Secret::default()
    }
}

/// The Secret with a fresh encryption key. It has no owner: whoever deletes the fleet by mistake can still open its database.
pub(crate) fn encryption(parent: &Parent, claim: &Claim) -> Secret {
    let mut metadata = parent.metadata(&parent.names.encryption_secret);
    metadata.owner_references = None;
    metadata.annotations = Some(BTreeMap::from([(CLAIM_ANNOTATION.to_owned(), claim.to_string())]));
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: data(ENCRYPTION_KEY, &SealingKey::generate().to_base64()),
        ..Secret::default()
    }
}

fn data(key: &str, value: &SecretString) -> Option<BTreeMap<String, ByteString>> {
    Some(BTreeMap::from([(key.to_owned(), ByteString(value.expose_secret().as_bytes().to_vec()))]))
}

/// The text under a key, if there is one and it is not empty.
pub(crate) fn text(secret: &Secret, key: &str) -> Option<SecretString> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::workload::names::ChildNames;

    fn parent() -> Parent {
        Parent {
            namespace: "llm".to_owned(),
            name: "main".to_owned(),
            uid: "u-1".to_owned(),
            names: ChildNames::of("main"),
        }
    }

    #[test]
    fn the_management_token_goes_with_its_fleet_and_the_encryption_key_stays() {
        let management = management(&parent());
        assert!(parent().owns(&management.metadata));
        let token = text(&management, TOKEN_KEY).unwrap();
        assert_eq!(token.expose_secret().len(), 43);
        assert!(
            token
                .expose_secret()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        let claim = Claim {
            cluster: "c".to_owned(),
            namespace: "llm".to_owned(),
            name: "main".to_owned(),
        };
        let encryption = encryption(&parent(), &claim);
        assert!(encryption.metadata.owner_references.is_none());
        assert_eq!(encryption.metadata.annotations.as_ref().unwrap()[CLAIM_ANNOTATION], "c/llm/main");
        assert!(SealingKey::from_base64(text(&encryption, ENCRYPTION_KEY).unwrap().expose_secret()).is_ok());
    }

    #[test]
    fn an_empty_value_is_none() {
        let mut secret = management(&parent());
        secret.data = data(TOKEN_KEY, &" \n".into());
        assert!(text(&secret, TOKEN_KEY).is_none() && text(&secret, "other").is_none());
    }
}
