//! Says once when the database goes away and once when it is back, instead of with every try.

/// Whether what a control task needs is away.
pub(super) struct Outage {
    what: &'static str,
    tries: u64,
}

impl Outage {
    /// `what` says what cannot be done, and what that means.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, tries: 0 }
    }

    /// A try failed.
    pub(super) fn began(&mut self, error: &store::StoreError) {
        self.tries += 1;
        if self.tries == 1 {
            tracing::warn!(%error, "{}", self.what);
        } else {
            tracing::debug!(%error, tries = self.tries, "{}", self.what);
        }
    }

    /// Whether the last try failed.
    pub(super) fn lasts(&self) -> bool {
        self.tries > 0
    }

    /// A try succeeded.
    pub(super) fn ended(&mut self) {
        if self.tries > 0 {
            tracing::info!(failed_tries = self.tries, "the database answers again");
            self.tries = 0;
        }
    }
}
