//! The closed set of condition reasons. Automation keys on these words, so one is added with care and never renamed.
//! It refuses to know when each applies; `operator` decides that.

use crate::closed_set::closed_set;

closed_set! {
    /// Why a condition has its status.
    pub enum Reason {
        // --- any kind
        /// Seen, not yet judged.
        Pending,
        /// Work is under way.
        Reconciling,
        /// The spec is valid and taken.
        Accepted,
        /// The spec breaks a rule; the message names field and remedy. The last good configuration stays.
        InvalidSpec,
        /// Everything that the spec refers to was found.
        ResolvedRefs,
        /// A reference crosses a namespace without the other side's consent.
        RefNotPermitted,
        /// A Secret that the spec refers to does not exist.
        SecretNotFound,
        /// The Secret exists, but not the key, or its value is empty or not usable.
        SecretKeyMissing,
        /// A Secret of that name belongs to somebody else, or to an older token.
        SecretConflict,
        /// An object of a name that the fleet needs belongs to somebody else; it is left as it is.
        NameConflict,
        /// The database does not answer.
        DatabaseUnavailable,
        /// The database answers but takes no writes.
        DatabaseReadOnly,
        /// The database is claimed by another fleet.
        DatabaseConflict,
        /// Kubernetes is limiting the operator.
        Throttled,
        /// The manifest's source has vanished; the object is kept (files only).
        SourceMissing,
        /// A fault of ours; the log has it under the object's name.
        Internal,
        /// In force on every replica that counts.
        Programmed,
        /// Written, but not yet acknowledged by every replica; the message names those that lack it.
        AwaitingReplicas,
        /// Everything that this kind promises holds.
        Ready,

        // --- ProxyConfig
        /// At least one replica serves.
        Available,
        /// No replica serves.
        NoReplicas,
        /// The database is reached, claimed and writable.
        DatabaseReady,
        /// The schema is at this release's version.
        Migrated,
        /// A migration is running.
        MigrationRunning,
        /// A migration failed; what ran before goes on serving.
        MigrationFailed,
        /// The database was migrated by a newer release.
        SchemaTooNew,
        /// The encryption key is not the one that sealed this database's credentials. It is never made anew.
        EncryptionKeyMismatch,
        /// The child objects are as wanted.
        Deployed,
        /// The API server does not take an object of the fleet; the message has its words.
        ApplyFailed,
        /// Replicas are being replaced.
        RollingOut,
        /// The replacement made no progress in time.
        RolloutFailed,
        /// The image cannot be pulled.
        ImagePullFailed,
        /// Some replicas run an older configuration for too long.
        ReplicasStale,

        // --- LLMProject
        /// The ProxyConfig that the project names does not exist.
        ProxyNotFound,
        /// The ProxyConfig exists but is not ready to take projects.
        ProxyNotReady,
        /// The ProxyConfig has no provider of that name.
        ProviderUnknown,
        /// The provider wants a credential and the project names none.
        CredentialsMissing,
        /// The project takes requests.
        Active,
        /// The project is switched off in its spec.
        Inactive,

        // --- WitheringToken
        /// The first revision is in its Secret and authenticates.
        Issued,
        /// A further revision replaced one near its end.
        Renewed,
        /// A further revision replaced one whose Secret was lost or changed.
        Reissued,
        /// A further revision was asked for.
        Rotated,
        /// Renewal is due and does not succeed; the message says until when the present value lives.
        RenewalFailing,
        /// The last revision has reached its end.
        Expired,
        /// maxRequests is used up for this period.
        RequestsExhausted,
        /// Switched off in its spec, for a while.
        Suspended,
        /// Revoked in its spec, for ever.
        Revoked,
        /// Revoked through /manage, for ever.
        RevokedByManage,
        /// The LLMProject that the token names does not exist.
        ProjectNotFound,
        /// The LLMProject exists but is not ready to have tokens.
        ProjectNotReady,
        /// The LLMProject is switched off.
        ProjectInactive,
        /// The Secret holds the value of the active revision.
        Delivered,
        /// The Secret cannot be written; the message says why.
        DeliveryFailed,
        /// Something else keeps rewriting the Secret.
        SecretContended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_word_that_metav1_allows_and_reads_back() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(
                word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric()),
                "{word}"
            );
            assert_eq!(word.parse(), Ok(*reason));
        }
        assert!("Because".parse::<Reason>().is_err());
    }
}
