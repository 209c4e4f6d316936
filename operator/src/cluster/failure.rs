//! What can go wrong while an object is looked after, sorted by what follows from it: look again at once, later, or tell the object's owner.
//! It refuses to know which effect failed and how long a pause lasts.

use std::time::Duration;

use store::StoreError;

use super::fleets::NotLive;
use super::gate::NotLeading;

/// How long one call of the API server may take.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one call of a database may take.
pub(crate) const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The code that the API server answers with where a precondition does not hold.
const CONFLICT: u16 = 409;

/// Why a look at an object ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiFailure),
    /// A database.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// The fleet's database is not open.
    #[error("{}", .0.message)]
    NoDatabase(NotLive),
    /// The right to write is gone.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// It took longer than any look may take.
    #[error("it took longer than {} s", .0.as_secs())]
    TooLong(Duration),
    /// One effect after the other and no end.
    #[error("it does not settle after {0} effects")]
    Unsettled(usize),
    /// A fault of ours.
    #[error("a fault of llm-proxy: {0}")]
    Panicked(String),
    /// A test's hook ended it.
    #[error("stopped")]
    Stopped,
}

impl ReconcileError {
    /// The class of the error: one of a few words, for metrics.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Api(ApiFailure::Overtaken) => "conflict",
            Self::Api(ApiFailure::Missing) => "missing",
            Self::Api(ApiFailure::Refused(_)) => "refused",
            Self::Api(ApiFailure::Unavailable { .. }) => "api_unavailable",
            Self::Database(StoreError::Fenced) => "fenced",
            Self::Database(StoreError::Unavailable(_) | StoreError::ReadOnly(_) | StoreError::Full(_)) | Self::NoDatabase(_) => {
                "database_unavailable"
            }
            Self::Database(_) => "database_refused",
            Self::NotLeading(_) => "not_leading",
            Self::TooLong(_) => "timeout",
            Self::Unsettled(_) => "unsettled",
            Self::Panicked(_) => "panic",
            Self::Stopped => "stopped",
        }
    }

    /// What to tell about a database that is away; nothing if the error is about something else.
    pub(crate) fn database_away(&self) -> Option<NotLive> {
        let reason = match self {
            // Work on it is under way, and its end is not known.
            Self::NoDatabase(not_live) if not_live.reason == crds::Reason::Reconciling => crds::Reason::DatabaseUnavailable,
            Self::NoDatabase(not_live) => return Some(not_live.clone()),
            Self::Database(StoreError::Unavailable(_) | StoreError::Full(_)) => crds::Reason::DatabaseUnavailable,
            Self::Database(StoreError::ReadOnly(_)) => crds::Reason::DatabaseReadOnly,
            _ => return None,
        };
        Some(NotLive {
            reason,
            message: self.to_string(),
        })
    }

    /// Whether what is wrong has just begun and is expected to pass: it is not worth telling after so few failed looks in a row.
    pub(crate) fn may_be_a_hiccup(&self, failures: u32) -> bool {
        match self {
            Self::NoDatabase(not_live) if not_live.reason == crds::Reason::Reconciling => failures < 3,
            Self::NoDatabase(_) => false,
            _ => failures == 0,
        }
    }

    /// How long the API server asked to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(ApiFailure::Unavailable { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

/// What a call of the API server came to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiFailure {
    /// The object is not what it was, or was made by somebody else in the meantime: nothing was done.
    #[error("the object was changed in the meantime")]
    Overtaken,
    /// The object or its namespace is not there: nothing was done.
    #[error("the object is not there")]
    Missing,
    /// The server does not want it, in its own words: a quota, a policy, a missing right, a namespace that ends. Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// No answer, or none that says what happened: it may have been done.
    #[error("the API server: {why}")]
    Unavailable {
        /// What is known.
        why: String,
        /// How long the server asked to be left alone.
        retry_after: Option<Duration>,
    },
}

impl From<kube::Error> for ApiFailure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unavailable {
                why: chain(&error),
                retry_after: None,
            };
        };
        match status.code {
            // Both `Conflict` and `AlreadyExists`; a CRD that is being deleted answers so as well, and is looked at again.
            CONFLICT => Self::Overtaken,
            404 => Self::Missing,
            400 | 403 | 405 | 413 | 415 | 422 => Self::Refused(status.message.clone()),
            _ => Self::Unavailable {
                why: status.message.clone(),
                retry_after: status
                    .details
                    .as_ref()
                    .map(|details| details.retry_after_seconds)
                    .filter(|seconds| *seconds > 0)
                    .map(|seconds| Duration::from_secs(u64::from(seconds))),
            },
        }
    }
}

/// An error with what caused it, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

/// A call of the API server, within its time.
///
/// # Errors
/// [`ApiFailure`].
pub(crate) async fn api<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiFailure> {
    api_within(API_TIMEOUT, call).await
}

async fn api_within<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiFailure> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(ApiFailure::from),
        Err(_) => Err(ApiFailure::Unavailable {
            why: format!("no answer within {} s", limit.as_secs()),
            retry_after: None,
        }),
    }
}

/// A call of a database, within its time.
///
/// # Errors
/// Those of the store.
pub(crate) async fn database<T>(call: impl Future<Output = store::Result<T>>) -> store::Result<T> {
    database_within(DATABASE_TIMEOUT, call).await
}

async fn database_within<T>(limit: Duration, call: impl Future<Output = store::Result<T>>) -> store::Result<T> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {} s", limit.as_secs()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answered(code: u16, reason: &str) -> ApiFailure {
        kube::Error::Api(Status::failure("said so", reason).with_code(code).boxed()).into()
    }

    #[test]
    fn answers_are_sorted_by_what_can_be_done_about_them() {
        assert!(matches!(answered(409, "AlreadyExists"), ApiFailure::Overtaken));
        assert!(matches!(answered(409, "Conflict"), ApiFailure::Overtaken));
        assert!(matches!(answered(404, "NotFound"), ApiFailure::Missing));
        for code in [400, 403, 413, 422] {
            assert!(matches!(answered(code, "Any"), ApiFailure::Refused(why) if why == "said so"), "{code}");
        }
        for code in [410, 429, 500, 503, 504] {
            assert!(matches!(answered(code, "Any"), ApiFailure::Unavailable { .. }), "{code}");
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends() {
        let limit = Duration::from_millis(10);
        let answer = api_within(limit, std::future::pending::<kube::Result<()>>()).await;
        assert!(matches!(answer, Err(ApiFailure::Unavailable { .. })));
        let answer = database_within(limit, std::future::pending::<store::Result<()>>()).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
    }
}
