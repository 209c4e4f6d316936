//! Why a request to `/manage` was not done, and the one table that turns each reason into status, code and message.

use api::ErrorBody;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use store::{ManageError, StoreError};

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

/// Left on an answer for whoever notes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            header: None,
        }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    pub(super) fn missing_token() -> Self {
        let message = "No management token was sent: put it into the Authorization header as 'Bearer <token>'.";
        Self::new(StatusCode::UNAUTHORIZED, "missing_management_token", message).with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn invalid_token() -> Self {
        let message = "This is not the management token.";
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        Self::new(StatusCode::UNAUTHORIZED, "invalid_management_token", message).with(WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn throttled(seconds: u64) -> Self {
        let message = format!("Too many failed credentials came from your address: try again in {seconds} s.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", message).with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is nothing at this path: see /manage/openapi.json for what there is.",
        )
    }

    /// The router says in `Allow` what the path takes.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This path does not take this method: the Allow header says which it takes.",
        )
    }

    pub(super) fn project_not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "project_not_found",
            "There is no such project: list them with GET /manage/projects.",
        )
    }

    pub(super) fn token_not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "token_not_found",
            "There is no such token: list them with GET /manage/tokens.",
        )
    }

    pub(super) fn too_large() -> Self {
        let message = format!("The request body is larger than {} bytes.", api::MAX_BODY_BYTES);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    pub(super) fn late_body() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The request body did not arrive in time.")
    }

    pub(super) fn unsupported_media_type(message: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn database_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "The database does not answer or takes no writes at this moment: try again. If this was a write, it may have been done all the same.",
        )
        .with(RETRY_AFTER, HeaderValue::from_static("2"))
    }

    pub(super) fn busy() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "idempotency_key_in_use",
            "A request with this Idempotency-Key is being done at this moment: send it again for its answer.",
        )
        .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "This is a fault of the server: its log says more.",
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::ReadOnly(_) | StoreError::Full(_) | StoreError::Fenced => {
                tracing::warn!(%error, "the database failed a request to /manage");
                Self::database_unavailable()
            }
            error => {
                tracing::error!(%error, "a request to /manage failed");
                Self::internal()
            }
        }
    }
}

impl From<ManageError> for Problem {
    fn from(error: ManageError) -> Self {
        use StatusCode as S;
        match error {
            ManageError::Store(error) => error.into(),
            ManageError::ProjectNotFound => Self::project_not_found(),
            ManageError::TokenNotFound => Self::token_not_found(),
            ManageError::ProviderNotFound { .. } => Self::new(
                S::NOT_FOUND,
                "provider_not_found",
                "`provider` names no provider of this fleet: see its configuration.",
            ),
            ManageError::ProviderUnclear { count } => Self::bad_request(
                "provider_required",
                format!("The fleet has {count} providers and none of them is the obvious one: name one as `provider`."),
            ),
            ManageError::KeyMissing { provider } => {
                Self::bad_request("missing_field", format!("`api_key` is required: provider {provider} wants a key."))
            }
            ManageError::Owned { kind, namespace, name } => Self::new(
                S::CONFLICT,
                "owned_by_resource",
                format!("This is declared by {kind} {namespace}/{name}: change it there. Only revoking a token works here."),
            ),
            ManageError::NameTaken => Self::new(
                S::CONFLICT,
                "name_taken",
                "Another project has this `name`: choose another one, or change that project.",
            ),
            ManageError::PreconditionFailed => Self::new(
                S::PRECONDITION_FAILED,
                "precondition_failed",
                "The object is no longer the one that If-Match names: read it again, then decide.",
            ),
            ManageError::Revoked => Self::new(
                S::CONFLICT,
                "token_revoked",
                "The token is revoked, which is never undone: create a new one.",
            ),
            ManageError::ProjectInactive => Self::new(
                S::FORBIDDEN,
                "project_inactive",
                "The project is not active: activate it before you create tokens in it.",
            ),
            ManageError::IdempotencyReused => Self::new(
                S::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "This Idempotency-Key came with another request within 24 hours: use a fresh one for each request.",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ErrorBody::new(self.code, self.message).to_json();
        let mut response = (self.status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(Code(self.code));
        response
    }
}
