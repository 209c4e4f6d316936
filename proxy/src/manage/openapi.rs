//! The OpenAPI document of `/manage`: the schemas are those of the types that are served, the operations stand in `openapi/operations.rs`.

mod operations;

use std::sync::LazyLock;

use api::{
    AuditEvent, AuditOutcome, AuditPage, AuditVerification, CreateProject, CreateToken, ErrorBody, IssuedToken, Owner, OwnerKind, Pagination,
    Project, RevokedTokens, Token, UpdateProject, UpdateToken, UsageGroup, UsageRow, WriterVerification,
};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(components(schemas(
    AuditEvent,
    AuditOutcome,
    AuditPage,
    AuditVerification,
    CreateProject,
    CreateToken,
    ErrorBody,
    IssuedToken,
    Owner,
    OwnerKind,
    Pagination,
    Project,
    RevokedTokens,
    Token,
    UpdateProject,
    UpdateToken,
    UsageGroup,
    UsageRow,
    WriterVerification,
)))]
struct Schemas;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
});

/// The document that `GET /manage/openapi.json` serves.
#[must_use]
pub fn document() -> Value {
    let mut document = serde_json::to_value(Schemas::openapi()).unwrap_or_default();
    document["openapi"] = "3.1.0".into();
    document["info"] = json!({
        "title": "llm-proxy management",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Projects, tokens, usage and audit of an llm-proxy fleet. Errors are `{\"error\", \"code\"}`. Rows that a declared resource owns \
            are shown and only revoked. Lists are arrays; the next page is linked in `Link` and `X-Next-Cursor`.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["security"] = json!([{"managementToken": []}]);
    document["paths"] = operations::paths();
    let components = &mut document["components"];
    components["securitySchemes"] = json!({"managementToken": {"type": "http", "scheme": "bearer"}});
    components["responses"] = operations::errors();
    components["parameters"] = operations::headers();
    constrain(&mut components["schemas"]);
    document
}

/// What the types cannot say: how fields depend on each other.
fn constrain(schemas: &mut Value) {
    schemas["CreateProject"]["oneOf"] = json!([{"required": ["api_key"]}, {"required": ["openai_api_key"]}]);
    schemas["UpdateProject"]["not"] = json!({"required": ["api_key", "openai_api_key"]});
    schemas["UpdateProject"]["if"] = json!({"required": ["revoke_tokens"]});
    schemas["UpdateProject"]["then"] = json!({"required": ["is_active"], "properties": {"is_active": {"const": false}}});
    let fields = ["is_active", "max_requests", "duration_minutes", "name"];
    schemas["UpdateToken"]["anyOf"] = fields.iter().map(|field| json!({"required": [field]})).collect();
}

pub(super) async fn get() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT.as_str()).into_response()
}
