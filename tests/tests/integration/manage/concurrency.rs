//! Two writers at once, and requests that are sent again.

use serde_json::json;
use testkit::client::{Request, Response};
use testkit::manage::Manage;
use testkit::stage::Stage;

use super::{KEY, refused};

fn with(manage: &Manage<'_>, method: &str, path: &str, header: (&str, &str), body: &serde_json::Value) -> Response {
    let request = Request::new(method, &format!("/manage{path}")).header("content-type", "application/json");
    manage.send(request.header(header.0, header.1).body(body.to_string()))
}

#[test]
fn a_write_that_names_the_version_it_has_seen_is_refused_once_that_is_gone() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let token = manage.issue(&project, json!({}));
    for (path, body, next) in [
        (format!("/projects/{project}"), json!({"name": "q"}), json!({"name": "r"})),
        (format!("/tokens/{}", token.id), json!({"max_requests": 5}), json!({"max_requests": 6})),
    ] {
        let seen = manage.get(&path).header("etag").unwrap().to_owned();
        let done = with(&manage, "PATCH", &path, ("if-match", &seen), &body);
        assert_eq!(done.status, 200, "{}", done.text());
        let now = done.header("etag").unwrap().to_owned();
        assert_ne!(seen, now);
        assert_eq!(manage.get(&path).header("etag"), Some(now.as_str()));
        for stale in [seen.as_str(), "\"999\"", "W/\"1\"", "nonsense"] {
            refused(&with(&manage, "PATCH", &path, ("if-match", stale), &next), 412, "precondition_failed");
        }
        // Nothing to change: the version stays, and so does what others have seen.
        assert_eq!(
            with(&manage, "PATCH", &path, ("if-match", &now), &body).header("etag"),
            Some(now.as_str())
        );
        assert_eq!(with(&manage, "PATCH", &path, ("if-match", "*"), &next).status, 200);
    }
    let path = format!("/tokens/{}", token.id);
    refused(
        &with(&manage, "DELETE", &path, ("if-match", "\"1\""), &json!({})),
        412,
        "precondition_failed",
    );
    let seen = manage.get(&path).header("etag").unwrap().to_owned();
    assert_eq!(with(&manage, "DELETE", &path, ("if-match", &seen), &json!({})).status, 204);
}

#[test]
fn a_request_that_is_sent_again_under_its_key_is_done_once() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let key = ("idempotency-key", "once");
    let body = json!({"name": "p", "api_key": KEY});
    let first = with(&manage, "POST", "/projects", key, &body);
    let again = with(&manage, "POST", "/projects", key, &body);
    assert_eq!(
        (first.status, first.body(), first.header("etag")),
        (again.status, again.body(), again.header("etag"))
    );
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    refused(
        &with(&manage, "POST", "/projects", key, &json!({"name": "q", "api_key": KEY})),
        422,
        "idempotency_key_reused",
    );

    // The same key elsewhere is another key.
    let project = first.json()["id"].as_str().unwrap().to_owned();
    let body = json!({"project_id": project, "duration_minutes": 5});
    let first = with(&manage, "POST", "/tokens", key, &body);
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, None), "{}", first.text());
    assert_eq!(with(&manage, "POST", "/tokens", key, &body).body(), first.body());
    assert_eq!(manage.get(&format!("/tokens?project_id={project}")).json().as_array().unwrap().len(), 1);

    let path = format!("/projects/{project}/tokens/revoke");
    let first = with(&manage, "POST", &path, key, &json!({}));
    assert_eq!(first.json()["revoked_count"], json!(1));
    assert_eq!(with(&manage, "POST", &path, key, &json!({})).body(), first.body());
    for bad in ["", "a b", &"k".repeat(256)] {
        refused(&with(&manage, "POST", "/tokens", ("idempotency-key", bad), &body), 400, "invalid_header");
    }
}

#[test]
fn the_same_request_from_many_sides_at_once_is_done_once() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let body = json!({"project_id": project, "duration_minutes": 5});
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let send = || with(&manage, "POST", "/tokens", ("idempotency-key", "many"), &body);
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut values = Vec::new();
    for answer in &answers {
        match answer.status {
            200 => values.push(answer.json()["token"].as_str().unwrap().to_owned()),
            _ => refused(answer, 409, "idempotency_key_in_use"),
        }
    }
    values.dedup();
    assert_eq!(values.len(), 1, "one value for all");
    assert_eq!(manage.get(&format!("/tokens?project_id={project}")).json().as_array().unwrap().len(), 1);
}

#[test]
fn two_projects_that_want_one_name_at_once_get_it_once() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let send = || manage.post("/projects", &json!({"name": "one", "api_key": KEY})).status;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}
