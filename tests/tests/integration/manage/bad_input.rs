//! Bad input, field by field: the right status, the code, the field's name in the message, and never the value.

use serde_json::{Value, json};
use testkit::client::{self, Request};
use testkit::manage::Manage;
use testkit::random::Random;
use testkit::stage::Stage;
use testkit::token;

use super::{KEY, refused};

/// Stands wherever a value must not come back.
const CANARY: &str = "sk-canary-0123456789-of-bad-input";
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

#[test]
fn every_field_of_every_body_is_checked_and_named() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let token = manage.issue(&project, json!({}));
    let (long, longest_key) = ("n".repeat(129), "k".repeat(4097));
    let create_project = |name: Value, key: Value| json!({"name": name, "api_key": key});
    let create_token = |field: &str, value: Value| {
        let mut body = json!({"project_id": project, "duration_minutes": 5});
        body[field] = value;
        body
    };
    let (projects, one_project) = ("/projects".to_owned(), format!("/projects/{project}"));
    let (tokens, one_token) = ("/tokens".to_owned(), format!("/tokens/{}", token.id));

    let mut cases: Vec<(&str, &str, Value, &str, &str)> = vec![
        ("POST", &projects, json!({"api_key": CANARY}), "missing_field", "name"),
        ("POST", &projects, json!({"name": "x"}), "missing_field", "api_key"),
        (
            "POST",
            &projects,
            json!({"name": "x", "api_key": CANARY, "openai_api_key": CANARY}),
            "invalid_field",
            "openai_api_key",
        ),
        (
            "POST",
            &projects,
            json!({"name": "x", "openai_api_key": 5}),
            "invalid_field",
            "openai_api_key",
        ),
        (
            "POST",
            &projects,
            json!({"name": "x", "api_key": CANARY, "provider": "NO"}),
            "invalid_field",
            "provider",
        ),
        (
            "POST",
            &projects,
            json!({"name": "x", "api_key": CANARY, "provider": 5}),
            "invalid_field",
            "provider",
        ),
        ("PATCH", &one_project, json!({"revoke_tokens": true}), "invalid_field", "revoke_tokens"),
        (
            "PATCH",
            &one_project,
            json!({"revoke_tokens": false, "is_active": true}),
            "invalid_field",
            "revoke_tokens",
        ),
        ("PATCH", &one_project, json!({"is_active": "false"}), "invalid_field", "is_active"),
        ("PATCH", &one_project, json!({"api_key": ""}), "invalid_field", "api_key"),
        ("PATCH", &one_project, json!({"name": null}), "invalid_field", "name"),
        ("POST", &tokens, json!({"duration_minutes": 5}), "missing_field", "project_id"),
        ("POST", &tokens, json!({"project_id": project}), "missing_field", "duration_minutes"),
        ("PATCH", &one_token, json!({}), "missing_field", "is_active"),
        ("PATCH", &one_token, json!({"unknown": true}), "missing_field", "is_active"),
        ("PATCH", &one_token, json!({"is_active": 1}), "invalid_field", "is_active"),
        ("PATCH", &one_token, json!({"max_requests": -1}), "invalid_field", "max_requests"),
        ("PATCH", &one_token, json!({"max_requests": null}), "invalid_field", "max_requests"),
        (
            "PATCH",
            &one_token,
            json!({"duration_minutes": 525_601}),
            "invalid_field",
            "duration_minutes",
        ),
    ];
    for name in [
        json!(""),
        json!(" x"),
        json!("a\u{0}b"),
        json!(long),
        json!(5),
        json!(null),
        json!(["x"]),
        json!({}),
    ] {
        cases.push(("POST", &projects, create_project(name.clone(), json!(CANARY)), "invalid_field", "name"));
        cases.push(("POST", &tokens, create_token("name", name), "invalid_field", "name"));
    }
    for key in [
        json!(""),
        json!("sk-12345...wxyz"),
        json!("sk-****"),
        json!("with space"),
        json!(longest_key),
        json!(5),
        json!(null),
    ] {
        cases.push(("POST", &projects, create_project(json!("x"), key), "invalid_field", "api_key"));
    }
    for number in [
        json!(0),
        json!(-1),
        json!(525_601),
        json!(1.5),
        json!("5"),
        json!(null),
        json!(true),
        json!(1e300),
    ] {
        cases.push((
            "POST",
            &tokens,
            create_token("duration_minutes", number),
            "invalid_field",
            "duration_minutes",
        ));
    }
    for number in [json!(-1), json!(9_007_199_254_740_992_u64), json!(0.5), json!("5"), json!([])] {
        cases.push(("POST", &tokens, create_token("max_requests", number), "invalid_field", "max_requests"));
    }
    for id in [
        json!(""),
        json!("x"),
        json!(5),
        json!(null),
        json!(CANARY),
        json!(project.replace('-', "")),
    ] {
        cases.push(("POST", &tokens, create_token("project_id", id), "invalid_field", "project_id"));
    }
    for (method, path, body, code, field) in &cases {
        let request = Request::new(method, &format!("/manage{path}")).header("content-type", "application/json");
        let response = manage.send(request.body(body.to_string()));
        refused(&response, 400, code);
        let text = response.text();
        assert!(text.contains(&format!("`{field}`")), "{method} {path} {body}: {text}");
        assert!(!text.contains(CANARY) && !text.contains("wxyz"), "{text}");
    }
    eprintln!("{} bodies refused", cases.len());
    // Unknown fields are passed over, and nothing of all this was done.
    let extra = json!({"name": "extra", "api_key": KEY, "surprise": {"a": [1]}});
    assert_eq!(manage.post("/projects", &extra).status, 201);
    assert_eq!(manage.get("/projects").json().as_array().unwrap().len(), 3);
    assert_eq!(manage.get(&format!("/tokens?project_id={project}")).json().as_array().unwrap().len(), 1);
    assert!(!stage.process.stderr().contains(CANARY));
}

#[test]
fn ids_that_are_unknown_or_malformed_are_not_found_and_not_repeated() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let mut random = Random::announced("ids");
    let nobody = token::unknown(&mut random);
    for id in [
        UNKNOWN,
        "x",
        "sk-lp-short",
        CANARY,
        &nobody,
        "%00",
        "%ff",
        "..%2f",
        "'",
        &"a".repeat(2_000),
    ] {
        for (path, code) in [
            (format!("/projects/{id}"), "project_not_found"),
            (format!("/tokens/{id}"), "token_not_found"),
        ] {
            let read = manage.get(&path);
            assert_eq!(read.status, 404, "{path}: {}", read.text());
            if !id.starts_with('%') {
                refused(&read, 404, code);
                refused(&manage.patch(&path, &json!({"is_active": false})), 404, code);
            }
            assert!(!read.text().contains(CANARY) && !read.text().contains(&nobody));
        }
        assert_eq!(manage.delete(&format!("/tokens/{id}")).status, 404, "{id}");
        assert_eq!(manage.post(&format!("/projects/{id}/tokens/revoke"), &json!({})).status, 404, "{id}");
    }
    let body = json!({"project_id": UNKNOWN, "duration_minutes": 5});
    refused(&manage.post("/tokens", &body), 404, "project_not_found");
    let body = json!({"name": "x", "api_key": KEY, "provider": "nobody"});
    refused(&manage.post("/projects", &body), 404, "provider_not_found");
    for path in ["/audit/x", &format!("/audit/{UNKNOWN}")] {
        refused(&manage.get(path), 404, "audit_event_not_found");
    }
    for path in ["", "/", "/nothing", "/projects/", "/tokens/a/b"] {
        assert_eq!(manage.get(path).status, 404, "{path}");
        assert!(manage.get(path).json()["error"].is_string(), "{path}");
    }
    let log = stage.process.stderr();
    assert!(!log.contains(&nobody) && !log.contains(CANARY), "no value of a path is logged");
}

#[test]
fn parameters_of_a_query_are_checked_and_named() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let cases = [
        ("/projects?limit=0", "limit"),
        ("/projects?limit=1001", "limit"),
        ("/projects?limit=x", "limit"),
        ("/projects?cursor=x", "cursor"),
        ("/tokens?project_id=x", "project_id"),
        ("/tokens?projectId=", "projectId"),
        ("/tokens?active_only=1", "active_only"),
        ("/tokens?activeOnly=true&active_only=yes", "active_only"),
        ("/tokens?limit=-1", "limit"),
        ("/usage?from=yesterday", "from"),
        ("/usage?to=2026-02-30", "to"),
        ("/usage?group_by=hour", "group_by"),
        ("/usage?group_by=", "group_by"),
        ("/usage?cursor=-1", "cursor"),
        ("/usage?model=", "model"),
        ("/audit?page=0", "page"),
        ("/audit?page_size=0", "page_size"),
        ("/audit?page_size=-1", "page_size"),
        ("/audit?page_size=101", "page_size"),
        ("/audit?start_time=now", "start_time"),
        ("/audit?outcome=maybe", "outcome"),
        ("/audit?project_id=x", "project_id"),
        ("/audit?search=", "search"),
    ];
    for (path, name) in cases {
        let response = manage.get(path);
        refused(&response, 400, "invalid_field");
        assert!(response.text().contains(&format!("`{name}`")), "{path}: {}", response.text());
    }
    refused(&manage.get("/projects?limit=1&limit=2"), 400, "duplicate_parameter");
    assert_eq!(manage.get("/projects?unknown=1&limit=5").status, 200);
    refused(&manage.get(&format!("/projects?cursor={UNKNOWN}")), 404, "project_not_found");
}

#[test]
fn bodies_that_are_no_json_or_too_large_or_of_another_type_are_refused() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let post =
        |content_type: &str, body: &[u8]| manage.send(Request::new("POST", "/manage/projects").header("content-type", content_type).body(body));
    let good = json!({"name": "x", "api_key": KEY}).to_string();
    for body in ["", "{", "[]", "null", "5", "\"x\"", "{\"name\":}", "{} {}", &"[".repeat(5_000)] {
        refused(&post("application/json", body.as_bytes()), 400, "invalid_json");
    }
    refused(&post("application/json", b"{\"name\":\"\xff\"}"), 400, "invalid_json");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        refused(&post(content_type, good.as_bytes()), 415, "unsupported_media_type");
    }
    let bare = manage.send(Request::new("POST", "/manage/projects").body(good.clone()));
    refused(&bare, 415, "unsupported_media_type");
    let packed = Request::new("POST", "/manage/projects")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip");
    refused(&manage.send(packed.body(good.clone())), 415, "unsupported_media_type");
    let large = format!("{{\"name\":\"{}\"}}", "n".repeat(1 << 20));
    refused(&post("application/json", large.as_bytes()), 413, "request_too_large");
    assert_eq!(post("Application/JSON; charset=utf-8", good.as_bytes()).status, 201);
}

#[test]
fn a_wrong_method_says_which_are_right() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let deletion = manage.delete(&format!("/projects/{project}"));
    assert_eq!((deletion.status, deletion.header("allow")), (405, Some("GET, PATCH")));
    let body = deletion.json();
    assert_eq!(
        (&body["error"], &body["message"]),
        (&json!("method not allowed"), &json!("project deletion is not permitted"))
    );
    for (method, path, allow) in [
        ("PUT", "/projects", "POST"),
        ("DELETE", "/projects", "GET"),
        ("POST", "/usage", "GET"),
        ("PUT", "/tokens/x", "DELETE"),
        ("OPTIONS", "/tokens", "POST"),
        ("TRACE", "/audit", "GET"),
        ("GET", "/projects/x/tokens/revoke", "POST"),
    ] {
        let response = manage.send(Request::new(method, &format!("/manage{path}")));
        refused(&response, 405, "method_not_allowed");
        assert!(
            response.header("allow").is_some_and(|allowed| allowed.contains(allow)),
            "{method} {path}: {:?}",
            response.headers
        );
    }
}

#[test]
fn credentials_that_are_wrong_missing_or_tried_too_often_are_refused_and_the_right_one_never() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let with = |value: &str| stage.process.send(&Request::get("/manage/projects").header("authorization", value));
    refused(&stage.process.send(&Request::get("/manage/projects")), 401, "missing_management_token");
    for value in ["Basic abc", "Bearer", "Bearer ", manage.token()] {
        refused(&with(value), 401, "missing_management_token");
    }
    for value in [
        "Bearer wrong".to_owned(),
        format!("Bearer {}x", manage.token()),
        format!("Bearer {}", stage.key),
    ] {
        refused(&with(&value), 401, "invalid_management_token");
    }
    for scheme in ["bearer", "BEARER"] {
        assert_eq!(with(&format!("{scheme} {}", manage.token())).status, 200);
    }
    let mut connection = client::Connection::open(stage.process.addr()).unwrap();
    let wrong = Request::get("/manage/projects").bearer("wrong");
    let throttled = (0..60).map(|_| connection.send(&wrong).unwrap()).find(|response| response.status == 429);
    let throttled = throttled.expect("too many failures in a row are throttled");
    refused(&throttled, 429, "too_many_failures");
    assert!(
        throttled
            .header("retry-after")
            .and_then(|after| after.parse::<u64>().ok())
            .is_some_and(|s| s >= 1)
    );
    assert_eq!(manage.get("/projects").status, 200, "the right token passes all the same");
    assert!(!stage.process.stderr().contains(manage.token()));
}
