//! The operations of `/manage`: parameters with their bounds, and every status with its body.

use serde_json::{Map, Value, json};

const UUID_PATTERN: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

/// Every operation can end so.
const ALWAYS: [u16; 7] = [400, 401, 408, 413, 429, 500, 503];

const IF_MATCH: &str = "IfMatch";
const IDEMPOTENCY_KEY: &str = "IdempotencyKey";

/// One operation on its way into the document.
struct Operation {
    value: Value,
}

impl Operation {
    fn new(id: &str, tag: &str, summary: &str) -> Self {
        let mut responses = Map::new();
        for status in ALWAYS {
            responses.insert(status.to_string(), error(status));
        }
        Self {
            value: json!({"operationId": id, "tags": [tag], "summary": summary, "parameters": [], "responses": responses}),
        }
    }

    fn with(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        if let Some(all) = self.value["parameters"].as_array_mut() {
            all.extend(parameters);
        }
        self
    }

    /// Headers that may be there on every request of this kind, but do not belong to this one. What a tool makes up for them is well-formed and
    /// still stale or used before, so they stand aside of the parameters.
    fn heeds(mut self, headers: &[&str]) -> Self {
        let references: Vec<_> = headers
            .iter()
            .map(|name| json!({"$ref": format!("#/components/parameters/{name}")}))
            .collect();
        let names = headers
            .iter()
            .map(|name| if *name == IF_MATCH { "`If-Match`" } else { "`Idempotency-Key`" });
        self.value["description"] = format!("Heeds {}: see `components/parameters`.", names.collect::<Vec<_>>().join(" and ")).into();
        self.value["x-heeded-headers"] = references.into();
        self
    }

    fn body(mut self, schema: &str) -> Self {
        self.value["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}});
        self.fails(&[415])
    }

    fn answers(mut self, status: u16, description: &str, schema: Value, headers: Value) -> Self {
        let mut response = json!({"description": description});
        if !schema.is_null() {
            response["content"] = json!({"application/json": {"schema": schema}});
        }
        if !headers.is_null() {
            response["headers"] = headers;
        }
        self.value["responses"][status.to_string()] = response;
        self
    }

    fn fails(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self.value["responses"][status.to_string()] = error(*status);
        }
        self
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn error(status: u16) -> Value {
    json!({"$ref": format!("#/components/responses/Error{status}")})
}

fn list_of(schema: &str) -> Value {
    json!({"type": "array", "items": reference(schema), "maxItems": api::MAX_PAGE})
}

/// The answers of `ALWAYS` and the operations' own.
pub(super) fn errors() -> Value {
    let table = [
        (400, "The request is malformed: the error names the field, the parameter or the header."),
        (401, "No management token, or a wrong one."),
        (403, "The project is not active."),
        (404, "There is no such object."),
        (408, "The body did not arrive in time."),
        (409, "It cannot be done to the object as it stands: the code says why."),
        (412, "The object is no longer the one that If-Match names."),
        (413, "The body is too large."),
        (415, "The body is not JSON."),
        (422, "The Idempotency-Key came with another request before."),
        (429, "Too many failed credentials from this address."),
        (500, "A fault of the server."),
        (503, "The database does not answer, or takes no writes: try again."),
    ];
    let mut errors = Map::new();
    for (status, description) in table {
        let mut response = json!({"description": description, "content": {"application/json": {"schema": reference("ErrorBody")}}});
        if matches!(status, 429 | 503) {
            response["headers"] = json!({"Retry-After": {
                "description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1, "maximum": 3600}
            }});
        }
        if status == 401 {
            response["headers"] = json!({"WWW-Authenticate": {"schema": {"type": "string", "maxLength": 64}}});
        }
        errors.insert(format!("Error{status}"), response);
    }
    errors.into()
}

fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid", "minLength": 36, "maxLength": 36, "pattern": format!("^{UUID_PATTERN}$")})
}

fn text(max: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": "^[^\\x00]+$"})
}

fn project_id() -> Value {
    json!({"name": "id", "in": "path", "required": true, "description": "The project's id.", "schema": uuid()})
}

fn token_id() -> Value {
    let pattern = format!("^(?:{UUID_PATTERN}|sk-lp-[0-9A-Za-z]{{8}}-[0-9A-Za-z]{{38}})$");
    let schema = json!({"type": "string", "minLength": 36, "maxLength": 53, "pattern": pattern});
    json!({"name": "id", "in": "path", "required": true, "description": "The token's id, or its value.", "schema": schema})
}

fn page(cursor: Value) -> [Value; 2] {
    [
        query(
            "limit",
            "How many items a page has.",
            json!({"type": "integer", "minimum": 1, "maximum": api::MAX_PAGE, "default": api::MAX_PAGE}),
        ),
        query("cursor", "Where the page begins: `X-Next-Cursor` of the page before.", cursor),
    ]
}

fn page_headers() -> Value {
    json!({
        "Link": {"description": "The next page, with rel=\"next\"; absent on the last one.", "schema": {"type": "string", "maxLength": 8192}},
        "X-Next-Cursor": {"description": "The next page's cursor; absent on the last one.", "schema": {"type": "string", "maxLength": 64}},
    })
}

fn etag() -> Value {
    let schema = json!({"type": "string", "maxLength": 20, "pattern": "^\"[0-9]{1,18}\"$"});
    json!({"ETag": {"description": "The object's version. Counters move without it.", "schema": schema}})
}

fn if_match() -> Value {
    json!({
        "name": "If-Match", "in": "header", "required": false,
        "description": "Do it only if the object still has this ETag, with its quotation marks; `*`: whatever it has.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    })
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "The same key with the same body gets the same answer for 24 hours, and the act is done once.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    })
}

/// The headers that operations heed.
pub(super) fn headers() -> Value {
    json!({IF_MATCH: if_match(), IDEMPOTENCY_KEY: idempotency_key()})
}

fn project_filter() -> [Value; 2] {
    ["project_id", "projectId"].map(|name| query(name, "Only of this project.", uuid()))
}

/// All paths.
pub(super) fn paths() -> Value {
    let mut paths = Map::new();
    let mut add = |path: &str, method: &str, operation: Operation| {
        let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        item[method] = operation.value;
    };
    projects(&mut add);
    tokens(&mut add);
    usage(&mut add);
    audit(&mut add);
    let mut document = Operation::new("getOpenApi", "meta", "This document; it needs no token").answers(
        200,
        "The document.",
        json!({"type": "object", "required": ["openapi", "info", "paths"]}),
        Value::Null,
    );
    document.value["security"] = json!([]);
    add("/manage/openapi.json", "get", document);
    paths.into()
}

fn projects(add: &mut impl FnMut(&str, &str, Operation)) {
    let tag = "projects";
    add(
        "/manage/projects",
        "get",
        Operation::new("listProjects", tag, "All projects, by name")
            .with(page(uuid()))
            .answers(200, "A page of projects.", list_of("Project"), page_headers())
            .fails(&[404]),
    );
    add(
        "/manage/projects",
        "post",
        Operation::new("createProject", tag, "Create a project with its provider's key")
            .heeds(&[IDEMPOTENCY_KEY])
            .body("CreateProject")
            .answers(201, "The project.", reference("Project"), etag())
            .fails(&[404, 409, 422]),
    );
    add(
        "/manage/projects/{id}",
        "get",
        Operation::new("getProject", tag, "One project")
            .with([project_id()])
            .answers(200, "The project.", reference("Project"), etag())
            .fails(&[404]),
    );
    add(
        "/manage/projects/{id}",
        "patch",
        Operation::new("updateProject", tag, "Change a project; what is absent stays")
            .with([project_id()])
            .heeds(&[IF_MATCH])
            .body("UpdateProject")
            .answers(200, "The project as it stands now.", reference("Project"), etag())
            .fails(&[404, 409, 412]),
    );
    add(
        "/manage/projects/{id}/tokens/revoke",
        "post",
        Operation::new(
            "revokeProjectTokens",
            tag,
            "Revoke all tokens of a project, for good; a body is passed over",
        )
        .with([project_id()])
        .heeds(&[IF_MATCH, IDEMPOTENCY_KEY])
        .answers(200, "How many.", reference("RevokedTokens"), Value::Null)
        .fails(&[404, 409, 412, 422]),
    );
}

fn tokens(add: &mut impl FnMut(&str, &str, Operation)) {
    let tag = "tokens";
    let active = ["active_only", "activeOnly"].map(|name| {
        query(
            name,
            "Only those that are neither suspended, revoked nor expired.",
            json!({"type": "boolean"}),
        )
    });
    add(
        "/manage/tokens",
        "get",
        Operation::new("listTokens", tag, "All tokens, newest first")
            .with(project_filter())
            .with(active)
            .with(page(uuid()))
            .answers(200, "A page of tokens.", list_of("Token"), page_headers()),
    );
    add(
        "/manage/tokens",
        "post",
        Operation::new("createToken", tag, "Create a token; the answer is the only one that holds its value")
            .heeds(&[IDEMPOTENCY_KEY])
            .body("CreateToken")
            .answers(200, "The token with its value.", reference("IssuedToken"), Value::Null)
            .fails(&[403, 404, 409, 422]),
    );
    add(
        "/manage/tokens/{id}",
        "get",
        Operation::new("getToken", tag, "One token")
            .with([token_id()])
            .answers(200, "The token.", reference("Token"), etag())
            .fails(&[404]),
    );
    add(
        "/manage/tokens/{id}",
        "patch",
        Operation::new("updateToken", tag, "Suspend, resume, rename, extend or limit a token")
            .with([token_id()])
            .heeds(&[IF_MATCH])
            .body("UpdateToken")
            .answers(200, "The token as it stands now.", reference("Token"), etag())
            .fails(&[404, 409, 412]),
    );
    add(
        "/manage/tokens/{id}",
        "delete",
        Operation::new("revokeToken", tag, "Revoke a token, for good; again is no error")
            .with([token_id()])
            .heeds(&[IF_MATCH])
            .answers(204, "It is revoked.", Value::Null, Value::Null)
            .fails(&[404, 412]),
    );
}

fn usage(add: &mut impl FnMut(&str, &str, Operation)) {
    let day = json!({"type": "string", "format": "date", "minLength": 10, "maxLength": 10});
    let groups = json!({"type": "array", "items": reference("UsageGroup"), "maxItems": 4});
    let mut group_by = query("group_by", "What the sums are kept apart by; repeated, or with commas.", groups);
    group_by["style"] = "form".into();
    group_by["explode"] = true.into();
    add(
        "/manage/usage",
        "get",
        Operation::new("getUsage", "usage", "Sums of what was used, newest day first")
            .with(project_filter())
            .with([
                query("token_id", "Only of this token.", uuid()),
                query("model", "Only of this model.", text(256)),
                query("from", "Not before this day (UTC).", day.clone()),
                query("to", "Not after this day (UTC).", day),
                group_by,
            ])
            .with(page(json!({"type": "integer", "minimum": 0, "maximum": 1_000_000_000})))
            .answers(200, "A page of sums.", list_of("UsageRow"), page_headers()),
    );
}

fn audit(add: &mut impl FnMut(&str, &str, Operation)) {
    let tag = "audit";
    let time = json!({"type": "string", "format": "date-time", "maxLength": 40});
    add(
        "/manage/audit",
        "get",
        Operation::new("listAudit", tag, "The audit, newest first; reading it is not audited")
            .with([
                query("action", "Only this action, such as token.create.", text(128)),
                query("actor", "Only by this actor.", text(128)),
                query("outcome", "Only with this outcome.", reference("AuditOutcome")),
                query("project_id", "Only about this project.", uuid()),
                query("request_id", "Only of this request.", text(128)),
                query("start_time", "Not before.", time.clone()),
                query("end_time", "Not after.", time),
                query("search", "A text within action, actor, subject, request id or metadata.", text(200)),
                query(
                    "page",
                    "Which page, from 1.",
                    json!({"type": "integer", "minimum": 1, "maximum": api::MAX_COUNT, "default": 1}),
                ),
                query(
                    "page_size",
                    "Events of a page.",
                    json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
                ),
            ])
            .answers(200, "A page of events.", reference("AuditPage"), Value::Null),
    );
    add(
        "/manage/audit/verify",
        "get",
        Operation::new("verifyAudit", tag, "Compute every hash of the audit anew").answers(
            200,
            "Whether each writer's chain holds.",
            reference("AuditVerification"),
            Value::Null,
        ),
    );
    let id = json!({"name": "id", "in": "path", "required": true, "description": "The event's id.", "schema": uuid()});
    add(
        "/manage/audit/{id}",
        "get",
        Operation::new("getAuditEvent", tag, "One event")
            .with([id])
            .answers(200, "The event.", reference("AuditEvent"), Value::Null)
            .fails(&[404]),
    );
}
