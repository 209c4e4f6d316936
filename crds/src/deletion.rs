//! What deleting an object is to mean for what belongs to it. There are no finalizers: whoever acts on it has written it down beforehand.
//! It refuses to know how it is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of a deleted fleet's or project's data.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It goes.
    Delete,
}

/// What becomes of a deleted token's keys.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenDeletionPolicy {
    /// They are revoked.
    #[default]
    Revoke,
    /// They live to their ends.
    Orphan,
}
