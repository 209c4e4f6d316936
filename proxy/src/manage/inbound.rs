//! A request to `/manage` as its handler gets it: admitted, its body read, its path's id apart.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts as _, RawPathParams, Request};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH};
use http::{HeaderMap, HeaderName, Method, Uri};
use sha2::{Digest as _, Sha256};
use store::{IdempotencyKey, ProjectId, TokenDigest, TokenId, TokenValue};
use uuid::Uuid;

use super::act::Context;
use super::fields::Fields;
use super::problem::Problem;
use super::query::Query;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_HEADER: usize = 255;
/// Rows count from 1.
const NO_VERSION: i64 = 0;

/// Who sent a request, and under which id.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) source: IpAddr,
    pub(super) request_id: String,
}

/// A request whose handler was found.
pub(super) struct Inbound {
    pub(super) caller: Caller,
    pub(super) query: Query,
    pub(super) uri: Uri,
    id: Option<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl FromRequest<Arc<Context>> for Inbound {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<Context>) -> Result<Self, Problem> {
        let (mut head, body) = request.into_parts();
        let params = RawPathParams::from_request_parts(&mut head, state)
            .await
            .map_err(|_| Problem::not_found())?;
        let id = params.iter().next().map(|(_, value)| value.to_owned());
        let caller = head.extensions.remove::<Caller>().ok_or_else(Problem::not_found)?;
        // It was read, and found short enough, before.
        let body = to_bytes(body, api::MAX_BODY_BYTES).await.map_err(|_| Problem::too_large())?;
        Ok(Self {
            caller,
            query: Query::parse(&head.uri)?,
            uri: head.uri,
            id,
            method: head.method,
            headers: head.headers,
            body,
        })
    }
}

impl Inbound {
    /// The fields of a JSON body.
    pub(super) fn fields(&self) -> Result<Fields, Problem> {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::unsupported_media_type(
                "Send the body as JSON, with Content-Type: application/json.",
            ));
        }
        if self.headers.contains_key(CONTENT_ENCODING) {
            return Err(Problem::unsupported_media_type(
                "Compressed bodies are not taken: send it without Content-Encoding.",
            ));
        }
        Fields::parse(&self.body)
    }

    /// The path's id, unless it is none. What is no id is repeated nowhere: it may be a key.
    pub(super) fn uuid(&self) -> Option<Uuid> {
        self.id.as_deref().filter(|id| id.len() == 36).and_then(|id| Uuid::parse_str(id).ok())
    }

    pub(super) fn project(&self) -> Result<ProjectId, Problem> {
        self.uuid().map(ProjectId::from).ok_or_else(Problem::project_not_found)
    }

    /// The path's token, which may be named by its id or by its value.
    pub(super) async fn token(&self, context: &Context) -> Result<TokenId, Problem> {
        if let Some(id) = self.uuid() {
            return Ok(id.into());
        }
        let value = self.id.as_deref().unwrap_or_default();
        TokenValue::check(value).map_err(|_| Problem::token_not_found())?;
        Ok(context.fleet.token_of_value(&TokenDigest::of(value)).await?)
    }

    /// The version that `If-Match` names; `None` if any will do. What is no ETag of ours names a version that no row has.
    pub(super) fn if_version(&self) -> Result<Option<i64>, Problem> {
        let text = match self.visible(&IF_MATCH)? {
            None | Some("*") => return Ok(None),
            Some(text) => text,
        };
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Ok(Some(version.and_then(|version| version.parse().ok()).unwrap_or(NO_VERSION)))
    }

    /// The client's Idempotency-Key, bound to this request.
    pub(super) fn idempotency(&self) -> Result<Option<IdempotencyKey>, Problem> {
        Ok(self.visible(&IDEMPOTENCY_KEY)?.map(|key| IdempotencyKey {
            scope: format!("{} {}", self.method, self.uri.path()),
            key: key.to_owned(),
            request_digest: Sha256::digest(&self.body).into(),
        }))
    }

    /// A header that may be there once, with visible ASCII characters.
    fn visible(&self, name: &HeaderName) -> Result<Option<&str>, Problem> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().unwrap_or("").trim();
        if values.next().is_some() || !(1..=MAX_HEADER).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let message = format!("{name} may be there once, with 1 to {MAX_HEADER} visible ASCII characters.");
            return Err(Problem::bad_request("invalid_header", message));
        }
        Ok(Some(text))
    }
}
