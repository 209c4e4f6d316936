//! `/manage` over a real process: what it does to requests on `/v1`, what it refuses, what its audit says.

mod audit;
mod bad_input;
mod concurrency;
mod document;
mod owned;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::client::{Request, Response};
use testkit::manage::Manage;
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::wait;

/// A key as providers issue them: long enough to be shown in part.
const KEY: &str = "sk-proj-0123456789abcdefghijklmnop";

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) {
    let body = response.json();
    assert_eq!((response.status, body["code"].as_str()), (status, Some(code)), "{}", response.text());
    assert!(body["error"].as_str().is_some_and(|error| error.len() > 10), "{body}");
    assert_eq!(response.header("content-type"), Some("application/json"));
}

fn chat(stage: &Stage, key: &str) -> Response {
    stage.process.send(&Request::chat(false).bearer(key))
}

#[test]
fn a_project_and_a_token_are_created_used_and_revoked() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let created = manage.post("/projects", &json!({"name": "My Project", "openai_api_key": KEY}));
    assert_eq!((created.status, created.header("etag")), (201, Some("\"1\"")), "{}", created.text());
    let project = created.json();
    assert_eq!((&project["api_key"], &project["is_active"]), (&json!("sk-proj-...mnop"), &json!(true)));
    let id = project["id"].as_str().unwrap();
    refused(
        &manage.post("/projects", &json!({"name": "My Project", "api_key": KEY})),
        409,
        "name_taken",
    );

    let token = manage.issue(id, json!({"max_requests": 2, "name": "app"}));
    assert_eq!(chat(&stage, &token.value).status, 200);
    assert_eq!(stage.provider.last().header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    wait::until("the count", wait::SOON, || {
        manage.get(&format!("/tokens/{}", token.id)).json()["request_count"] == 1
    });
    let by_value = manage.get(&format!("/tokens/{}", token.value)).json();
    assert_eq!((&by_value["id"], &by_value["name"]), (&json!(token.id), &json!("app")));
    assert_eq!(by_value["token"], json!(format!("{}…", &token.value[..14])));
    assert_eq!(chat(&stage, &token.value).status, 200);
    assert_eq!(chat(&stage, &token.value).code(), "rate_limit_exceeded");

    for _ in 0..2 {
        assert_eq!(manage.delete(&format!("/tokens/{}", token.value)).status, 204);
    }
    wait::until("the denial", wait::SOON, || chat(&stage, &token.value).code() == "token_inactive");
    refused(
        &manage.patch(&format!("/tokens/{}", token.id), &json!({"is_active": true})),
        409,
        "token_revoked",
    );
}

#[test]
fn a_suspended_token_and_an_inactive_project_return() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let token = manage.issue(&project, json!({}));
    assert_eq!(chat(&stage, &token.value).status, 200);
    for (path, code) in [
        (format!("/tokens/{}", token.id), "token_inactive"),
        (format!("/projects/{project}"), "project_inactive"),
    ] {
        let off = manage.patch(&path, &json!({"is_active": false}));
        assert_eq!((off.status, &off.json()["is_active"]), (200, &json!(false)), "{}", off.text());
        wait::until("the denial", wait::SOON, || chat(&stage, &token.value).code() == code);
        if path.starts_with("/projects") {
            assert!(off.json()["deactivated_at"].is_string());
            let body = json!({"project_id": project, "duration_minutes": 5});
            refused(&manage.post("/tokens", &body), 403, "project_inactive");
        }
        assert_eq!(manage.patch(&path, &json!({"is_active": true})).json()["is_active"], json!(true));
        wait::until("the return", wait::SOON, || chat(&stage, &token.value).status == 200);
    }
}

#[test]
fn a_limit_is_lowered_raised_and_removed_and_a_key_is_replaced() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let token = manage.issue(&project, json!({"max_requests": 100}));
    let path = format!("/tokens/{}", token.id);
    assert_eq!(chat(&stage, &token.value).status, 200);
    assert_eq!(manage.patch(&path, &json!({"max_requests": 1})).json()["max_requests"], json!(1));
    wait::until("the lower limit", wait::SOON, || {
        chat(&stage, &token.value).code() == "rate_limit_exceeded"
    });
    assert_eq!(manage.patch(&path, &json!({"max_requests": 3})).status, 200);
    wait::until("the higher limit", wait::SOON, || chat(&stage, &token.value).status == 200);
    assert_eq!(manage.patch(&path, &json!({"max_requests": 0})).json()["max_requests"], json!(null));
    wait::until("no limit", wait::SOON, || (0..3).all(|_| chat(&stage, &token.value).status == 200));

    let body = json!({"api_key": "sk-another-0123456789abcdefghij"});
    assert_eq!(manage.patch(&format!("/projects/{project}"), &body).status, 200);
    wait::until("the new key", wait::SOON, || {
        assert_eq!(chat(&stage, &token.value).status, 200);
        stage.provider.last().header("authorization") == Some("Bearer sk-another-0123456789abcdefghij")
    });
}

#[test]
fn all_tokens_of_a_project_are_revoked_in_one_act() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let tokens: Vec<_> = (0..5).map(|_| manage.issue(&project, json!({}))).collect();
    assert_eq!(manage.delete(&format!("/tokens/{}", tokens[0].id)).status, 204);
    assert_eq!(chat(&stage, &tokens[1].value).status, 200);
    let path = format!("/projects/{project}/tokens/revoke");
    let counts = |revoked, before| json!({"revoked_count": revoked, "already_revoked_count": before, "total_tokens": 5});
    assert_eq!(manage.post(&path, &json!({})).json(), counts(4, 1));
    for token in &tokens {
        wait::until("the denial", wait::SOON, || chat(&stage, &token.value).code() == "token_inactive");
    }
    assert_eq!(manage.post(&path, &json!({})).json(), counts(0, 5));
    // The stage's own token is another project's.
    assert_eq!(stage.send(Request::chat(false)).status, 200);
    assert_eq!(
        stage.provider.last().header("authorization"),
        Some(format!("Bearer {PROVIDER_KEY}").as_str())
    );
}

#[test]
fn a_revocation_is_felt_within_moments_of_its_answer() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let token = manage.issue(&project, json!({}));
        assert_eq!(chat(&stage, &token.value).status, 200);
        assert_eq!(manage.delete(&format!("/tokens/{}", token.id)).status, 204);
        let began = Instant::now();
        wait::until("the denial", wait::SOON, || chat(&stage, &token.value).status == 401);
        worst = worst.max(began.elapsed());
    }
    eprintln!("the slowest of 20 revocations was felt {worst:?} after its answer");
    assert!(worst < Duration::from_millis(250), "{worst:?}");
}

#[test]
fn lists_come_in_pages_that_lead_through_all_of_them_once() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let mut issued: Vec<_> = (0..7).map(|_| manage.issue(&project, json!({})).id).collect();
    let mut seen = Vec::new();
    let mut next = format!("/manage/tokens?project_id={project}&limit=3");
    loop {
        let page = manage.send(Request::get(&next));
        assert_eq!(page.status, 200, "{}", page.text());
        let ids = page.json();
        let ids = ids.as_array().unwrap();
        assert!((1..=3).contains(&ids.len()));
        seen.extend(ids.iter().map(|token| token["id"].as_str().unwrap().to_owned()));
        let Some(link) = page.header("link") else { break };
        assert!(link.contains(page.header("x-next-cursor").unwrap()));
        next = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
    issued.reverse();
    assert_eq!(seen, issued, "newest first, each once");

    assert_eq!(manage.delete(&format!("/tokens/{}", issued[0])).status, 204);
    for query in ["active_only=true", "activeOnly=true"] {
        let active = manage.get(&format!("/tokens?projectId={project}&{query}")).json();
        assert_eq!(active.as_array().unwrap().len(), 6, "{query}");
    }
    let names: Vec<_> = ["b", "a", "c"].iter().map(|name| manage.project(name, KEY)).collect();
    let first = manage.get("/projects?limit=1");
    let rest = manage.get(&format!("/projects?cursor={}", first.header("x-next-cursor").unwrap()));
    let listed: Vec<_> = [first.json(), rest.json()]
        .iter()
        .flat_map(|page| page.as_array().unwrap().clone())
        .map(|project| project["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(listed.is_sorted() && listed.len() == names.len() + 2, "{listed:?}");
}

#[test]
fn usage_is_summed_as_it_is_asked_for() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let project = manage.project("p", KEY);
    let tokens: Vec<_> = (0..2).map(|_| manage.issue(&project, json!({}))).collect();
    for token in [&tokens[0], &tokens[0], &tokens[1]] {
        assert_eq!(chat(&stage, &token.value).status, 200);
    }
    let path = format!("/usage?project_id={project}");
    wait::until("the usage", wait::SOON, || manage.get(&path).json()[0]["requests"] == 3);
    let by_token = manage.get(&format!("{path}&group_by=token,model&group_by=day")).json();
    let mut sums: Vec<_> = by_token
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            assert!(
                row["day"].is_string() && row["model"] == "gpt-4o-mini" && row.get("project_id").is_none(),
                "{row}"
            );
            (row["token_id"].as_str().unwrap().to_owned(), row["requests"].as_u64().unwrap())
        })
        .collect();
    sums.sort_by_key(|(_, requests)| *requests);
    assert_eq!(sums, [(tokens[1].id.clone(), 1), (tokens[0].id.clone(), 2)]);
    let one = manage.get(&format!("/usage?token_id={}&group_by=project", tokens[0].id)).json();
    assert_eq!((&one[0]["requests"], &one[0]["project_id"]), (&json!(2), &json!(project)));
    assert_eq!(manage.get(&format!("{path}&to=2001-01-01")).json(), json!([]));
    assert_eq!(manage.get(&format!("{path}&model=none")).json(), json!([]));
    assert_eq!(manage.get(&format!("/tokens/{}", tokens[0].id)).json()["request_count"], json!(2));
}

#[test]
fn what_came_through_manage_survives_a_restart() {
    let mut stage = Stage::new("");
    let (project, token) = {
        let manage = Manage::of(&stage.process);
        let project = manage.project("p", KEY);
        let token = manage.issue(&project, json!({}));
        (project, token)
    };
    stage.process.stop();
    let process = stage.process.setup().start();
    let manage = Manage::of(&process);
    assert_eq!(manage.get(&format!("/projects/{project}")).status, 200);
    assert_eq!(process.send(&Request::chat(false).bearer(&token.value)).status, 200);
    assert!(manage.get("/audit/verify").json()["ok"].as_bool().unwrap());
}

#[test]
fn a_rotated_token_file_works_without_a_restart() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    assert_eq!(manage.get("/projects").status, 200);
    fs::write(stage.process.setup().data().join("management-token"), "the-next-token\n").unwrap();
    refused(&manage.get("/projects"), 401, "invalid_management_token");
    let next = Request::get("/manage/projects").bearer("the-next-token");
    assert_eq!(stage.process.send(&next).status, 200);
}
