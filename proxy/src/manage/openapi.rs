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
        "description": "Projects, tokens, usage and audit of an llm-proxy fleet. \
            Errors are `{\"error\", \"code\"}`. Rows that a declared resource owns \
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

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    /// `LLM_PROXY_WRITE_DOCS=1 cargo test -p proxy openapi` brings the file up to date.
    #[test]
    fn the_document_in_docs_is_the_one_that_is_served() {
        if std::env::var_os("LLM_PROXY_WRITE_DOCS").is_some() {
            std::fs::write(FILE, DOCUMENT.as_str()).unwrap();
        }
        let file = std::fs::read_to_string(FILE).unwrap();
        assert!(file == *DOCUMENT, "docs/openapi.json is out of date");
    }

    /// Walks every schema of the document.
    fn walk(at: &str, value: &Value, check: &mut impl FnMut(&str, &Value)) {
        check(at, value);
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| walk(&format!("{at}/{name}"), value, check)),
            Value::Array(items) => items.iter().for_each(|value| walk(at, value, check)),
            _ => {}
        }
    }

    #[test]
    fn every_field_is_bounded() {
        let mut unbounded = Vec::new();
        walk("", &document(), &mut |at, value| {
            let types = match &value["type"] {
                Value::String(one) => vec![one.as_str()],
                Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
                _ => return,
            };
            let has = |name: &str| value.get(name).is_some();
            let bounded = types.iter().all(|kind| match *kind {
                "string" => has("maxLength") || has("enum") || has("const") || value["format"] == "uuid",
                "integer" | "number" => has("minimum") && has("maximum"),
                "array" => has("maxItems"),
                _ => true,
            });
            if !bounded {
                unbounded.push(at.to_owned());
            }
        });
        assert!(unbounded.is_empty(), "{unbounded:#?}");
    }

    #[test]
    fn the_bounds_of_the_schemas_are_those_that_are_enforced() {
        let document = document();
        let at = |pointer: &str| document.pointer(&format!("/components/schemas/{pointer}")).cloned().unwrap_or_default();
        assert_eq!(at("CreateProject/properties/name/maxLength"), json!(api::MAX_NAME));
        assert_eq!(at("CreateProject/properties/api_key/maxLength"), json!(api::MAX_PROVIDER_KEY));
        assert_eq!(at("CreateProject/properties/provider/maxLength"), json!(api::MAX_PROVIDER));
        assert_eq!(at("CreateToken/properties/duration_minutes/maximum"), json!(api::MAX_DURATION_MINUTES));
        assert_eq!(at("CreateToken/properties/max_requests/maximum"), json!(api::MAX_COUNT));
        assert_eq!(at("Pagination/properties/page_size/maximum"), json!(api::PAGE_SIZE_MAX));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        walk("", &document, &mut |at, value| {
            if let Some(reference) = value["$ref"].as_str() {
                assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{at}: {reference}");
            }
        });
    }
}
