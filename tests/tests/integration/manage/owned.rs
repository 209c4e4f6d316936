//! Rows of declared resources through `/manage`: shown, revoked, and nothing else.

use serde_json::json;
use testkit::client::Request;
use testkit::manage::Manage;
use testkit::stage::Stage;
use testkit::{manifests, wait};

use super::{KEY, chat, refused};

#[test]
fn what_a_resource_declares_is_shown_and_changed_only_there() {
    let stage = Stage::new("  maxRequests: 50");
    let manage = Manage::of(&stage.process);
    let token = manage.get(&format!("/tokens/{}", stage.key)).json();
    let owner = json!({"kind": "WitheringToken", "namespace": manifests::NAMESPACE, "name": "app"});
    assert_eq!((&token["owner"], &token["max_requests"]), (&owner, &json!(50)), "{token}");
    assert!(token["expires_at"].is_string());
    let projects = manage.get("/projects").json();
    let project = &projects[0];
    assert_eq!(project["owner"]["kind"], json!("LLMProject"));
    assert!(!project.to_string().contains("key-of-the-tests"), "{project}");

    let token_path = format!("/tokens/{}", token["id"].as_str().unwrap());
    let project_path = format!("/projects/{}", project["id"].as_str().unwrap());
    let writes = [
        manage.patch(&token_path, &json!({"is_active": false})),
        manage.patch(&token_path, &json!({"max_requests": 1})),
        manage.patch(&token_path, &json!({"duration_minutes": 1})),
        manage.patch(&project_path, &json!({"is_active": false})),
        manage.patch(&project_path, &json!({"api_key": KEY})),
        manage.patch(&project_path, &json!({"name": "other"})),
    ];
    for response in writes {
        refused(&response, 409, "owned_by_resource");
        assert!(response.text().contains(&format!("{}/app", manifests::NAMESPACE)), "{}", response.text());
    }
    assert_eq!(stage.send(Request::chat(false)).status, 200);
}

#[test]
fn a_resource_owned_token_that_is_revoked_stays_revoked_and_its_resource_says_so() {
    let stage = Stage::with_tokens(&[("app", ""), ("bulk", "")]);
    let manage = Manage::of(&stage.process);
    let bulk = stage.process.key("bulk");
    assert_eq!(manage.delete(&format!("/tokens/{}", stage.key)).status, 204);
    wait::until("the denial", wait::SOON, || chat(&stage, &stage.key).code() == "token_inactive");
    assert_eq!(chat(&stage, &bulk).status, 200);
    let project = manage.get("/projects").json()[0]["id"].as_str().unwrap().to_owned();
    let counts = manage.post(&format!("/projects/{project}/tokens/revoke"), &json!({})).json();
    assert_eq!(counts, json!({"revoked_count": 1, "already_revoked_count": 1, "total_tokens": 2}));
    wait::until("the denial", wait::SOON, || chat(&stage, &bulk).code() == "token_inactive");
    for name in ["app", "bulk"] {
        wait::until("the resource's word on it", wait::SOON, || {
            let status = stage.process.setup().status();
            let ready = status.condition("WitheringToken", name, "Ready");
            ready.is_some_and(|ready| ready["status"] == "False" && ready["reason"] == "RevokedByManage")
        });
    }
    // A change of the resource brings no new value.
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", "  maxRequests: 7"));
    assert_eq!(stage.send(Request::chat(false)).code(), "token_inactive");
}
