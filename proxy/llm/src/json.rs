//! Our own values as JSON text.

use bytes::Bytes;
use serde::Serialize;

/// The value as compact JSON.
pub(crate) fn json(value: &impl Serialize) -> Bytes {
    // Plain structs of strings and numbers cannot fail to serialize; an empty body would show if one ever did.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}
