//! The OpenAPI document, and whether every answer keeps to it.

use testkit::client::Request;
use testkit::manage::Manage;
use testkit::schemathesis;
use testkit::stage::Stage;

#[test]
fn the_document_needs_no_token_and_everything_else_does() {
    let stage = Stage::new("");
    let document = stage.process.send(&Request::get("/manage/openapi.json"));
    assert_eq!(document.status, 200);
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    for path in document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|path| !path.ends_with("openapi.json"))
    {
        let path = path.replace("{id}", "00000000-0000-0000-0000-000000000000");
        let response = stage.process.send(&Request::get(&path));
        assert_eq!(
            (response.status, response.json()["code"].as_str()),
            (401, Some("missing_management_token")),
            "{path}"
        );
        assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    }
}

#[test]
fn schemathesis_finds_no_answer_that_breaks_the_document() {
    let stage = Stage::new("");
    let manage = Manage::of(&stage.process);
    let document = format!("http://{}/manage/openapi.json", stage.process.addr());
    let run = schemathesis::run(&document, manage.token(), 125, 1);
    assert!(run.passed, "{}", run.report);
    assert!(run.cases >= 2_000, "only {} cases:\n{}", run.cases, run.report);
    eprintln!("{} cases, no failure", run.cases);
    assert!(
        manage.get("/audit/verify").json()["ok"].as_bool().unwrap(),
        "the audit's chains hold after all of it"
    );
}
