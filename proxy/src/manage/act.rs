//! What the handlers share, and how a request becomes an act: with its audit row, its precondition and its stored answer.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Map, json};
use store::{Act, AuditOutcome, Fleet, HolderId, StoredAnswer};

use super::denials::{Class, Denials};
use super::inbound::{Caller, Inbound};
use super::problem::Problem;

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Who acts: there is one management token, and nobody is told apart by it.
pub(super) const ACTOR: &str = "management";

/// What the handlers share.
pub(crate) struct Context {
    pub(super) fleet: Fleet,
    pub(super) holder: HolderId,
    pub(super) denials: Denials,
    /// Idempotency keys of requests that are being done.
    busy: Mutex<HashSet<(String, String)>>,
}

/// Holds an idempotency key until its request is done.
pub(super) struct Busy<'c> {
    context: &'c Context,
    key: Option<(String, String)>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.context.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}

impl Context {
    pub(super) fn new(fleet: Fleet, holder: HolderId) -> Self {
        Self {
            fleet,
            holder,
            denials: Denials::default(),
            busy: Mutex::default(),
        }
    }

    /// The act that this request asks for.
    pub(super) fn act(&self, action: &'static str, inbound: &Inbound) -> Result<Act, Problem> {
        let mut detail = Map::new();
        detail.insert("client_ip".into(), json!(inbound.caller.source.to_string()));
        Ok(Act {
            writer: self.holder,
            action,
            actor: ACTOR.into(),
            request_id: inbound.caller.request_id.clone(),
            detail,
            if_version: inbound.if_version()?,
            idempotency: None,
        })
    }

    /// The same, whose answer is kept if the client has named a key for it.
    pub(super) fn repeatable(&self, action: &'static str, inbound: &Inbound) -> Result<(Act, Busy<'_>), Problem> {
        let mut act = self.act(action, inbound)?;
        act.idempotency = inbound.idempotency()?;
        let key = act.idempotency.as_ref().map(|key| (key.scope.clone(), key.key.clone()));
        if let Some(key) = &key
            && !self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone())
        {
            return Err(Problem::busy());
        }
        Ok((act, Busy { context: self, key }))
    }

    /// Notes an act that found everything as it should be.
    pub(super) fn nothing_to_do(&self, action: &'static str, caller: &Caller) {
        let class = Class {
            action,
            code: "unchanged",
            actor: ACTOR,
            outcome: AuditOutcome::Allowed,
        };
        self.denials.note(class, caller);
    }
}

/// An answer that may be kept.
pub(super) fn answer(status: StatusCode, version: Option<i64>, body: &impl Serialize) -> StoredAnswer {
    StoredAnswer {
        status: status.as_u16(),
        version,
        // Plain structs of texts and numbers cannot fail to serialize; an empty body would show if they ever did.
        body: SecretString::from(serde_json::to_string(body).unwrap_or_default()),
        replayed: false,
    }
}

/// An answer on its way.
pub(super) fn respond(answer: &StoredAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (
        status,
        [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        answer.body.expose_secret().to_owned(),
    )
        .into_response();
    if let Some(version) = answer.version {
        response.headers_mut().insert(ETAG, etag(version));
    }
    if answer.replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// One object, or a list of them.
pub(super) fn show(version: Option<i64>, body: &impl Serialize) -> Response {
    respond(&answer(StatusCode::OK, version, body))
}

/// The row's version: counters that move by themselves are not covered.
fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}
