//! The closed set of event reasons, each with its severity and action as `events.k8s.io/v1` wants them.
//! It refuses to know how events are sent, limited and deduplicated.

use crate::closed_set::closed_set;

/// The longest note that `events.k8s.io/v1` takes, in bytes.
pub const MAX_NOTE: usize = 1024;

closed_set! {
    /// What happened, in one word.
    pub enum EventReason {
        /// The first value of a token was issued.
        TokenIssued,
        /// A further value was issued because the old one nears its end.
        TokenRenewed,
        /// A further value was issued because the spec asked for it.
        TokenRotated,
        /// All values of a token were revoked.
        TokenRevoked,
        /// A token was switched off for a while.
        TokenSuspended,
        /// A suspended token works again.
        TokenResumed,
        /// The last value of a token reached its end.
        TokenExpired,
        /// A project is in force on every replica.
        ProjectProgrammed,
        /// A project was switched off.
        ProjectDeactivated,
        /// A project that was switched off is switched on again.
        ProjectActivated,
        /// A project's provider credentials were sealed anew.
        CredentialsUpdated,
        /// A fleet's configuration is in force on every replica.
        ConfigPushed,
        /// Replicas are being replaced.
        RolloutStarted,
        /// Replicas were replaced.
        RolloutFinished,
        /// The database was migrated.
        MigrationFinished,
        /// The management token was made, once.
        ManagementSecretGenerated,
        /// The database answers again.
        DatabaseRecovered,
        /// A deleted Secret was written anew, with a new value.
        SecretRecreated,
        /// A changed Secret was written anew, with a new value.
        SecretTampered,
        /// A Secret of the wanted name belongs to somebody else.
        SecretConflict,
        /// The overlap of an older value was ended early, because its Secret was lost or changed.
        OverlapCut,
        /// Renewal is due and does not succeed.
        RenewalFailing,
        /// maxRequests is used up.
        RequestsExhausted,
        /// A row that should be there was missing; a new value was issued.
        RowMissing,
        /// The spec breaks a rule.
        InvalidSpec,
        /// A reference crosses a namespace without consent.
        RefNotPermitted,
        /// The manifest's source has vanished; the object is kept (files only).
        SourceMissing,
        /// The database does not answer.
        DatabaseUnavailable,
        /// Replicas could not be replaced.
        RolloutFailed,
        /// A migration failed.
        MigrationFailed,
    }
}

/// The `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All as wanted; dropped first when events are limited.
    Normal,
    /// Somebody may have to act.
    Warning,
}

impl Severity {
    /// The word as it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl EventReason {
    /// Whether somebody may have to act.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::TokenIssued
            | Self::TokenRenewed
            | Self::TokenRotated
            | Self::TokenRevoked
            | Self::TokenSuspended
            | Self::TokenResumed
            | Self::TokenExpired
            | Self::ProjectProgrammed
            | Self::ProjectDeactivated
            | Self::ProjectActivated
            | Self::CredentialsUpdated
            | Self::ConfigPushed
            | Self::RolloutStarted
            | Self::RolloutFinished
            | Self::MigrationFinished
            | Self::ManagementSecretGenerated
            | Self::DatabaseRecovered => Severity::Normal,
            Self::SecretRecreated
            | Self::SecretTampered
            | Self::SecretConflict
            | Self::OverlapCut
            | Self::RenewalFailing
            | Self::RequestsExhausted
            | Self::RowMissing
            | Self::InvalidSpec
            | Self::RefNotPermitted
            | Self::SourceMissing
            | Self::DatabaseUnavailable
            | Self::RolloutFailed
            | Self::MigrationFailed => Severity::Warning,
        }
    }

    /// What was being done, the `action` of an event.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::TokenIssued => "Issue",
            Self::TokenRenewed | Self::RenewalFailing => "Renew",
            Self::TokenRotated => "Rotate",
            Self::TokenRevoked => "Revoke",
            Self::TokenSuspended => "Suspend",
            Self::TokenResumed => "Resume",
            Self::TokenExpired => "Expire",
            Self::SecretRecreated | Self::SecretTampered | Self::SecretConflict | Self::OverlapCut | Self::RowMissing => "Deliver",
            Self::RequestsExhausted => "Meter",
            Self::ProjectProgrammed | Self::ProjectDeactivated | Self::ProjectActivated | Self::CredentialsUpdated | Self::ConfigPushed => "Program",
            Self::RolloutStarted | Self::RolloutFinished | Self::RolloutFailed => "Rollout",
            Self::MigrationFinished | Self::MigrationFailed => "Migrate",
            Self::ManagementSecretGenerated => "Generate",
            Self::InvalidSpec | Self::RefNotPermitted | Self::SourceMissing => "Validate",
            Self::DatabaseUnavailable | Self::DatabaseRecovered => "Connect",
        }
    }
}

/// Cuts a note to [`MAX_NOTE`] bytes at the boundary of a character, so that the API server does not refuse the whole event.
#[must_use]
pub fn note(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_and_has_an_action() {
        for reason in EventReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert!(!reason.action().is_empty() && reason.as_str().len() <= 128);
        }
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let long = "ä".repeat(MAX_NOTE);
        assert_eq!(note(&long).len(), MAX_NOTE);
        assert_eq!(note(&format!("x{long}")).len(), MAX_NOTE - 1);
        assert_eq!(note("short"), "short");
    }
}
