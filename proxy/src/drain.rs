//! The phases in which a process leaves (contracts.md §6).

/// Where the process stands; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Still accepting; /ready says no and every answer closes its connection.
    Announced,
    /// No longer accepting; idle connections close, running replies go on.
    Closing,
    /// Running replies end now.
    Aborting,
}

/// What a drain left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Replies that were still running when the grace period ended.
    pub cut: u64,
    /// Whether all leases were settled and given back; otherwise they expire and their rest is forfeited.
    pub leases_returned: bool,
}
