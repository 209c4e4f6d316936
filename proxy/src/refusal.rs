//! Why a request was not served, and the one table that turns each reason into status, code, metric label and retry advice.

use http::StatusCode;
use llm::ApiError;

use crate::limit_hit::LimitHit;

/// Longer than this a client should not wait: the official SDKs do not, and would ask again sooner.
const WORTH_WAITING_S: u32 = 60;

/// A reason for an answer of our own instead of the provider's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    MissingToken,
    InvalidToken,
    TokenNotFound,
    TokenExpired {
        token: Box<str>,
    },
    TokenInactive {
        token: Box<str>,
    },
    ProjectInactive {
        project: Box<str>,
    },
    /// What is left of a limit is too little, until it resets, if it ever does.
    LimitReached(Box<LimitHit>),
    /// The rest of the limit is held elsewhere at this moment.
    LimitBusy(Box<LimitHit>),
    /// The request alone may need more than the limit is.
    RequestOverLimit(Box<LimitHit>),
    /// A budget is in force and nobody knows what the model costs.
    ModelNotPriced,
    EndpointNotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    UpgradeNotSupported,
    /// HTTP/1.1 without a Host header, or with several: who stands before us may have read another one.
    AmbiguousHost,
    UnsupportedMediaType {
        what: &'static str,
    },
    BodyTooLarge {
        limit: usize,
    },
    BodyTimeout,
    BodyAborted,
    Overloaded,
    InvalidBody(ApiError),
    DatabaseUnavailable,
    NoProvider {
        project: Box<str>,
    },
    UpstreamUnreachable {
        provider: Box<str>,
    },
    UpstreamTimeout {
        provider: Box<str>,
    },
    UpstreamBroken {
        provider: Box<str>,
    },
    /// The provider refused the project's credential; the application's token is fine.
    UpstreamAuth {
        provider: Box<str>,
    },
    Draining,
}

/// How a refusal looks from outside.
pub(crate) struct Answer {
    pub(crate) error: ApiError,
    pub(crate) retry: Retry,
}

/// Retry advice, in the headers that the official SDKs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No header: the client's own policy.
    Unsaid,
    /// `Retry-After`, in seconds.
    After(u32),
    /// `Retry-After`, in seconds, and `x-should-retry: false`: longer than a client should hold its request.
    Later(u32),
    /// `x-should-retry: false`.
    Never,
}

impl Refusal {
    /// The one table.
    pub(crate) fn answer(&self) -> Answer {
        use Retry::{After, Later, Never, Unsaid};
        use StatusCode as S;
        let row = |status, code, message: String, retry| Answer {
            error: ApiError::new(status, code, message),
            retry,
        };
        match self {
            Self::MissingToken => row(
                S::UNAUTHORIZED,
                "missing_token",
                "No token was sent: put it into the Authorization header as 'Bearer <token>', or into x-api-key.".into(),
                Unsaid,
            ),
            Self::InvalidToken => row(
                S::UNAUTHORIZED,
                "invalid_token",
                "The token is malformed: it may have been cut or mistyped.".into(),
                Unsaid,
            ),
            Self::TokenNotFound => row(S::UNAUTHORIZED, "token_not_found", "The token is not known here.".into(), Unsaid),
            Self::TokenExpired { token } => row(
                S::UNAUTHORIZED,
                "token_expired",
                format!("This value of token {token} has expired: read the current one from its Secret."),
                Unsaid,
            ),
            Self::TokenInactive { token } => row(
                S::UNAUTHORIZED,
                "token_inactive",
                format!("Token {token} is revoked or suspended, or this value of it was replaced."),
                Unsaid,
            ),
            Self::ProjectInactive { project } => row(S::FORBIDDEN, "project_inactive", format!("Project {project} is not active."), Unsaid),
            Self::LimitReached(hit) => row(
                S::TOO_MANY_REQUESTS,
                hit.code(),
                hit.reached(),
                match hit.resets_in_s {
                    None => Never,
                    Some(seconds) if seconds <= WORTH_WAITING_S => After(seconds),
                    Some(seconds) => Later(seconds),
                },
            ),
            Self::LimitBusy(hit) => row(S::TOO_MANY_REQUESTS, hit.code(), hit.busy(), After(1)),
            Self::RequestOverLimit(hit) => row(S::TOO_MANY_REQUESTS, hit.code(), hit.too_large(), Never),
            Self::ModelNotPriced => row(
                S::FORBIDDEN,
                "model_not_priced",
                "A budget is in force and the price of this model is not known: whoever runs the proxy must set one for its provider.".into(),
                Never,
            ),
            // The path is not repeated: somebody may have put a key into it.
            Self::EndpointNotFound => row(
                S::NOT_FOUND,
                "endpoint_not_found",
                "There is no such endpoint here: see the OpenAI API reference for paths under /v1.".into(),
                Unsaid,
            ),
            Self::MethodNotAllowed { allow } => row(
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("This endpoint takes {allow}."),
                Unsaid,
            ),
            Self::UpgradeNotSupported => row(
                S::NOT_IMPLEMENTED,
                "websocket_not_supported",
                "WebSocket and other protocol upgrades are not supported: use HTTP requests with server-sent events.".into(),
                Never,
            ),
            Self::AmbiguousHost => row(
                S::BAD_REQUEST,
                "invalid_host",
                "An HTTP/1.1 request must have exactly one Host header.".into(),
                Unsaid,
            ),
            Self::UnsupportedMediaType { what } => row(S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", (*what).into(), Unsaid),
            Self::BodyTooLarge { limit } => row(
                S::PAYLOAD_TOO_LARGE,
                "request_too_large",
                format!("The request body is larger than {limit} bytes."),
                Unsaid,
            ),
            Self::BodyTimeout => row(
                S::REQUEST_TIMEOUT,
                "request_timeout",
                "The request body did not arrive in time.".into(),
                Unsaid,
            ),
            Self::BodyAborted => row(S::BAD_REQUEST, "request_aborted", "The request body ended early.".into(), Unsaid),
            Self::Overloaded => row(
                S::SERVICE_UNAVAILABLE,
                "overloaded",
                "The proxy is at its limit of work: try again.".into(),
                After(1),
            ),
            Self::InvalidBody(error) => Answer {
                error: error.clone(),
                retry: Unsaid,
            },
            Self::DatabaseUnavailable => row(
                S::SERVICE_UNAVAILABLE,
                "database_unavailable",
                "The token cannot be checked at this moment: try again.".into(),
                After(2),
            ),
            Self::NoProvider { project } => row(
                S::SERVICE_UNAVAILABLE,
                "upstream_auth_error",
                format!("Project {project} has no usable provider: see its conditions."),
                After(5),
            ),
            Self::UpstreamUnreachable { provider } => row(
                S::BAD_GATEWAY,
                "upstream_unreachable",
                format!("Provider {provider} cannot be reached."),
                Unsaid,
            ),
            Self::UpstreamTimeout { provider } => row(
                S::GATEWAY_TIMEOUT,
                "timeout",
                format!("Provider {provider} did not answer in time."),
                Unsaid,
            ),
            Self::UpstreamBroken { provider } => row(
                S::BAD_GATEWAY,
                "upstream_error",
                format!("Provider {provider} broke off or sent an answer that is not HTTP."),
                Unsaid,
            ),
            Self::UpstreamAuth { provider } => row(
                S::BAD_GATEWAY,
                "upstream_auth_error",
                format!("Provider {provider} refused the project's credential; your token is fine. Whoever owns the project must renew the key."),
                Never,
            ),
            Self::Draining => row(
                S::SERVICE_UNAVAILABLE,
                "draining",
                "This replica is shutting down: try again.".into(),
                After(1),
            ),
        }
    }
}
