//! The one table of endpoints: which paths exist, what they take, whether they are metered, where the model stands.
//! It refuses to know who may call them and where they are forwarded to.

use std::borrow::Cow;

use http::{Method, StatusCode};

use self::BodyKind::{Json, Multipart};
use self::EndpointKind as Kind;
use self::Methods::{Get, GetDelete, GetPost, Post};
use self::ModelPlace::{Form, Optional, OptionalWithPrompt, Required};
use crate::{ApiError, Dialect, Peek};

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointKind {
    /// `/chat/completions`.
    ChatCompletions,
    /// `/responses`: creating one.
    Responses,
    /// `/responses/…`: reading, cancelling, compacting, counting.
    ResponsesStored,
    /// `/completions`, the older text completions.
    Completions,
    /// `/embeddings`.
    Embeddings,
    /// `/models`.
    Models,
    /// `/models/{model}`.
    Model,
    /// `/moderations`.
    Moderations,
    /// `/images/…`.
    Images,
    /// `/audio/…`.
    Audio,
    /// `/files…`.
    Files,
    /// `/uploads…`.
    Uploads,
    /// `/batches…`.
    Batches,
    /// `/fine_tuning/…`.
    FineTuning,
}

/// What the body of a POST is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// There is none.
    None,
    /// One JSON object, read whole and peeked.
    Json,
    /// A form that streams through unread.
    Multipart,
}

/// Where the model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelPlace {
    /// In the body, and it must be there.
    Required,
    /// In the body, unless a stored `prompt` names it.
    OptionalWithPrompt,
    /// In the body, or left to the provider.
    Optional,
    /// In the path's `{id}`.
    Path,
    /// In a form that streams through unread: it stays unknown.
    Form,
    /// The endpoint has no model.
    None,
}

/// One row of the table.
#[derive(Debug)]
pub struct Endpoint {
    /// The path behind `/v1`; `{id}` stands for one segment.
    pub path: &'static str,
    /// What it does.
    pub kind: EndpointKind,
    /// The language of its bodies and errors.
    pub dialect: Dialect,
    /// Whether its answers report token usage.
    pub metered: bool,
    /// Whether its answers may be streams of events.
    pub streams: bool,
    /// What a POST carries; see [`Endpoint::body_of`].
    pub body: BodyKind,
    /// Where the model stands.
    pub model: ModelPlace,
    methods: Methods,
    /// Where `{id}` stands in the path.
    id_at: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Methods {
    Get,
    Post,
    GetPost,
    GetDelete,
}

const ID: &str = "{id}";

const fn id_at(path: &str) -> Option<usize> {
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'{' {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// A metered endpoint with a JSON body.
const fn generates(path: &'static str, kind: Kind, streams: bool, model: ModelPlace) -> Endpoint {
    Endpoint {
        metered: true,
        streams,
        ..plain(path, kind, Post, Json, model)
    }
}

/// An endpoint around stored objects, or one whose answers count no tokens.
const fn plain(path: &'static str, kind: Kind, methods: Methods, body: BodyKind, model: ModelPlace) -> Endpoint {
    Endpoint {
        path,
        kind,
        dialect: Dialect::OpenAi,
        metered: false,
        streams: false,
        body,
        model,
        methods,
        id_at: id_at(path),
    }
}

/// The OpenAI API as far as an application needs it, by the paths of its official Python SDK 3.54. Left out on purpose: `/organization` and
/// `/projects`, which administer the account behind the key; deleting models, for the same reason; `/realtime`, which is WebSocket; the
/// deprecated assistants; stores that hold other tokens' conversations (`GET /chat/completions`, `/conversations`). Busy rows come first: the
/// look-up goes from top to bottom.
static ENDPOINTS: [Endpoint; 35] = [
    generates("/chat/completions", Kind::ChatCompletions, true, Required),
    generates("/responses", Kind::Responses, true, OptionalWithPrompt),
    generates("/embeddings", Kind::Embeddings, false, Required),
    generates("/completions", Kind::Completions, true, Required),
    plain("/models", Kind::Models, Get, BodyKind::None, ModelPlace::None),
    plain("/models/{id}", Kind::Model, Get, BodyKind::None, ModelPlace::Path),
    plain("/moderations", Kind::Moderations, Post, Json, Optional),
    generates("/images/generations", Kind::Images, true, Optional),
    Endpoint {
        metered: true,
        streams: true,
        ..plain("/images/edits", Kind::Images, Post, Multipart, Form)
    },
    plain("/images/variations", Kind::Images, Post, Multipart, Form),
    generates("/audio/speech", Kind::Audio, true, Required),
    Endpoint {
        metered: true,
        streams: true,
        ..plain("/audio/transcriptions", Kind::Audio, Post, Multipart, Form)
    },
    plain("/audio/translations", Kind::Audio, Post, Multipart, Form),
    generates("/responses/compact", Kind::ResponsesStored, false, Required),
    plain("/responses/input_tokens", Kind::ResponsesStored, Post, Json, Optional),
    Endpoint {
        streams: true,
        ..plain("/responses/{id}", Kind::ResponsesStored, GetDelete, BodyKind::None, ModelPlace::None)
    },
    plain("/responses/{id}/cancel", Kind::ResponsesStored, Post, BodyKind::None, ModelPlace::None),
    plain(
        "/responses/{id}/input_items",
        Kind::ResponsesStored,
        Get,
        BodyKind::None,
        ModelPlace::None,
    ),
    plain("/files", Kind::Files, GetPost, Multipart, ModelPlace::None),
    plain("/files/{id}", Kind::Files, GetDelete, BodyKind::None, ModelPlace::None),
    plain("/files/{id}/content", Kind::Files, Get, BodyKind::None, ModelPlace::None),
    plain("/uploads", Kind::Uploads, Post, Json, ModelPlace::None),
    plain("/uploads/{id}/parts", Kind::Uploads, Post, Multipart, ModelPlace::None),
    plain("/uploads/{id}/complete", Kind::Uploads, Post, Json, ModelPlace::None),
    plain("/uploads/{id}/cancel", Kind::Uploads, Post, BodyKind::None, ModelPlace::None),
    plain("/batches", Kind::Batches, GetPost, Json, ModelPlace::None),
    plain("/batches/{id}", Kind::Batches, Get, BodyKind::None, ModelPlace::None),
    plain("/batches/{id}/cancel", Kind::Batches, Post, BodyKind::None, ModelPlace::None),
    plain("/fine_tuning/jobs", Kind::FineTuning, GetPost, Json, Required),
    plain("/fine_tuning/jobs/{id}", Kind::FineTuning, Get, BodyKind::None, ModelPlace::None),
    plain("/fine_tuning/jobs/{id}/cancel", Kind::FineTuning, Post, BodyKind::None, ModelPlace::None),
    plain("/fine_tuning/jobs/{id}/pause", Kind::FineTuning, Post, BodyKind::None, ModelPlace::None),
    plain("/fine_tuning/jobs/{id}/resume", Kind::FineTuning, Post, BodyKind::None, ModelPlace::None),
    plain("/fine_tuning/jobs/{id}/events", Kind::FineTuning, Get, BodyKind::None, ModelPlace::None),
    plain(
        "/fine_tuning/jobs/{id}/checkpoints",
        Kind::FineTuning,
        Get,
        BodyKind::None,
        ModelPlace::None,
    ),
];

/// The endpoint of a path (without query), with or without `/v1` before it. A path must match exactly: no trailing slash, no prefix.
#[must_use]
pub fn find(path: &str) -> Option<&'static Endpoint> {
    let rest = behind_v1(path);
    let exact = ENDPOINTS.iter().find(|endpoint| endpoint.path == rest);
    exact.or_else(|| ENDPOINTS.iter().find(|endpoint| endpoint.id_of(rest).is_some()))
}

/// The whole table, for documents and tests.
#[must_use]
pub fn all() -> &'static [Endpoint] {
    &ENDPOINTS
}

/// The path to send upstream. `base_path` is the path of the provider's base URL: what stands before `/v1`; a trailing slash or `/v1` in it is
/// accepted and not doubled. `path` is the client's, with or without `/v1`; what is sent always has it. Borrowed where nothing changes.
#[must_use]
pub fn upstream_path<'p>(base_path: &str, path: &'p str) -> Cow<'p, str> {
    let base = base_path.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    let rest = behind_v1(path);
    if base.is_empty() && rest.len() < path.len() {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(base.len() + 3 + rest.len());
    out.push_str(base);
    out.push_str("/v1");
    out.push_str(rest);
    Cow::Owned(out)
}

impl Endpoint {
    /// Whether the endpoint takes this method.
    #[must_use]
    pub fn allows(&self, method: &Method) -> bool {
        match self.methods {
            Get => method == Method::GET,
            Post => method == Method::POST,
            GetPost => method == Method::GET || method == Method::POST,
            GetDelete => method == Method::GET || method == Method::DELETE,
        }
    }

    /// The methods it takes, as the `Allow` header has them.
    #[must_use]
    pub fn allow_header(&self) -> &'static str {
        match self.methods {
            Get => "GET",
            Post => "POST",
            GetPost => "GET, POST",
            GetDelete => "GET, DELETE",
        }
    }

    /// What a request of this method carries: lists and deletions under a path that also takes a POST carry nothing.
    #[must_use]
    pub fn body_of(&self, method: &Method) -> BodyKind {
        if method == Method::POST { self.body } else { BodyKind::None }
    }

    /// The `{id}` in a path of this endpoint, as it stands there (percent-encoded).
    #[must_use]
    pub fn id_in<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.id_of(behind_v1(path))
    }

    /// Checks that the body names a model where the endpoint needs one. An empty name is none.
    ///
    /// # Errors
    /// 400 `missing_required_parameter`.
    pub fn check_model(&self, peeked: &Peek<'_>) -> Result<(), ApiError> {
        let named = peeked.model.as_deref().is_some_and(|model| !model.is_empty());
        let needed = match self.model {
            Required => true,
            OptionalWithPrompt => !peeked.has_prompt,
            Optional | ModelPlace::Path | Form | ModelPlace::None => false,
        };
        if named || !needed {
            return Ok(());
        }
        Err(ApiError {
            param: Some("model"),
            ..ApiError::new(
                StatusCode::BAD_REQUEST,
                "missing_required_parameter",
                "The body names no model: add the parameter \"model\".",
            )
        })
    }

    fn id_of<'p>(&self, rest: &'p str) -> Option<&'p str> {
        let (before, id_and_after) = self.path.split_at_checked(self.id_at?)?;
        let after = id_and_after.strip_prefix(ID)?;
        let id = rest.strip_prefix(before)?.strip_suffix(after)?;
        is_id(id).then_some(id)
    }
}

fn behind_v1(path: &str) -> &str {
    match path.strip_prefix("/v1") {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Whether a segment can be an object's id. Some providers decode `%2F` and then resolve `..`, which would lead out of the table: so no piece
/// between slashes, written out or encoded, may be empty or consist of dots alone, and what would need decoding twice is refused.
fn is_id(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    let mut named = false; // the present piece holds something other than dots
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'/' | b'?' | b'#' | b'\\' => return false,
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return false,
            },
            plain => plain,
        };
        match byte {
            b'/' if !named => return false,
            b'/' => named = false,
            b'.' => {}
            b'%' | b'\\' | 0..=0x20 | 0x7f => return false,
            _ => named = true,
        }
    }
    named
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
