//! The audit: a row for each act and each kind of denial, in chains that show what was changed.

use serde_json::{Value, json};
use testkit::client::Request;
use testkit::manage::Manage;
use testkit::stage::Stage;
use testkit::{database, wait};

use super::{KEY, chat};

fn events(manage: &Manage<'_>, query: &str) -> Vec<Value> {
    let page = manage.get(&format!("/audit?{query}"));
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()["events"].as_array().expect("events are never null").clone()
}

#[test]
fn each_act_is_a_row_that_says_who_did_what_to_what() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    assert!(events(&manage, "").is_empty());
    let project = manage.project("p", KEY);
    let token = manage.issue(&project, json!({}));
    let path = format!("/tokens/{}", token.id);
    let patched = manage.patch(&path, &json!({"max_requests": 5}));
    assert_eq!(manage.delete(&path).status, 204);
    assert_eq!(manage.post(&format!("/projects/{project}/tokens/revoke"), &json!({})).status, 200);
    assert_eq!(manage.patch(&format!("/projects/{project}"), &json!({"is_active": false})).status, 200);
    let rows = events(&manage, "outcome=allowed");
    let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
    let wanted = [
        "project.update",
        "token.revoke_batch",
        "token.revoke",
        "token.update",
        "token.create",
        "project.create",
    ];
    assert_eq!(actions, wanted, "newest first");
    let update = &rows[3];
    assert_eq!(update["actor"], "management");
    assert_eq!((&update["token_id"], &update["project_id"]), (&json!(token.id), &json!(project)));
    assert_eq!(update["request_id"].as_str(), patched.header("x-request-id"));
    assert_eq!(
        (&update["metadata"]["updated_fields"], &update["metadata"]["client_ip"]),
        (&json!(["max_requests"]), &json!("127.0.0.1"))
    );
    assert_eq!(manage.get(&format!("/audit/{}", update["id"].as_str().unwrap())).json(), *update);

    assert_eq!(events(&manage, "action=token.create").len(), 1);
    assert_eq!(events(&manage, &format!("project_id={project}")).len(), 6);
    assert_eq!(
        events(&manage, &format!("request_id={}", patched.header("x-request-id").unwrap())).len(),
        1
    );
    assert_eq!(events(&manage, "search=MAX_REQUESTS&action=token.update").len(), 1);
    assert_eq!(events(&manage, "search=%25").len(), 0, "a percent sign is no wildcard");
    assert_eq!(events(&manage, "actor=nobody").len(), 0);
    let at = update["timestamp"].as_str().unwrap();
    assert!(events(&manage, &format!("start_time={at}&end_time={at}")).contains(update));
    assert_eq!(events(&manage, "end_time=2001-01-01T00:00:00Z").len(), 0);

    let page = manage.get("/audit?page=2&page_size=4&outcome=allowed").json();
    let wanted = json!({"page": 2, "page_size": 4, "total_count": 6, "total_pages": 2, "has_next": false, "has_prev": true});
    assert_eq!((&page["pagination"], page["events"].as_array().unwrap().len()), (&wanted, 2));
    let everything = manage.get("/audit?page_size=100").text();
    assert!(!everything.contains(KEY) && !everything.contains(&token.value) && !everything.contains(manage.token()));
}

#[test]
fn denials_are_gathered_by_kind() {
    let stage = Stage::new("  maxRequests: 1");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    for _ in 0..15 {
        assert_eq!(stage.process.send(&Request::get("/manage/projects").bearer("wrong")).status, 401);
    }
    assert_eq!(manage.delete(&format!("/projects/{project}")).status, 405);
    assert_eq!(manage.post("/projects", &json!({"name": "p", "api_key": KEY})).status, 409);
    assert_eq!(manage.post("/tokens", &json!({})).status, 400);
    let denied = |action: &str, code: &str| -> u64 {
        let rows = events(&manage, &format!("action={action}&search={code}&page_size=100"));
        rows.iter().map(|row| row["count"].as_u64().unwrap()).sum()
    };
    for (action, code, times) in [
        ("management.authenticate", "invalid_management_token", 15),
        ("project.delete", "method_not_allowed", 1),
        ("project.create", "name_taken", 1),
        ("token.create", "missing_field", 1),
    ] {
        wait::until(code, wait::SOON, || denied(action, code) == times);
        let rows = events(&manage, &format!("action={action}&search={code}")).len();
        assert!(rows <= 5, "{rows} rows for {times} denials of one kind within moments");
    }
    let row = &events(&manage, "action=management.authenticate")[0];
    assert_eq!((&row["actor"], &row["outcome"]), (&json!("anonymous"), &json!("denied")));

    assert_eq!(stage.send(Request::chat(false)).status, 200);
    assert_eq!(chat(&stage, &stage.key).code(), "rate_limit_exceeded");
    assert_eq!(chat(&stage, "sk-lp-short").code(), "invalid_token");
    for code in ["rate_limit_exceeded", "invalid_token"] {
        wait::until(code, wait::SOON, || denied("proxy.request", code) == 1);
    }
    assert!(manage.get("/audit/verify").json()["ok"].as_bool().unwrap());
}

#[test]
fn a_row_that_is_changed_behind_the_databases_back_is_found() {
    let mut stage = Stage::new("");
    {
        let manage = Manage::of(&stage.process);
        let project = manage.project("p", KEY);
        for _ in 0..3 {
            let token = manage.issue(&project, json!({}));
            assert_eq!(manage.delete(&format!("/tokens/{}", token.id)).status, 204);
        }
        let sound = manage.get("/audit/verify").json();
        assert_eq!((&sound["ok"], &sound["writers"][0]["rows"]), (&json!(true), &json!(7)), "{sound}");
    }
    stage.process.stop();
    database::execute(
        stage.process.setup().data(),
        "UPDATE audit SET actor = 'nobody' WHERE seq = 4 AND writer NOT LIKE '%/%'",
    );
    let process = stage.process.setup().start();
    let manage = Manage::of(&process);
    let broken = manage.get("/audit/verify").json();
    assert_eq!(broken["ok"], json!(false));
    let seqs: Vec<_> = broken["writers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|writer| &writer["first_broken_seq"])
        .collect();
    assert!(seqs.contains(&&json!(4)), "{broken}");
}
