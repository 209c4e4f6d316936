//! Manifests that people edit: what is broken is named and changes nothing; what is deleted for good is revoked; nothing is revoked by accident.

use std::fs;
use std::time::{Duration, Instant};

use testkit::client::Request;
use testkit::stage::Stage;
use testkit::{manifests, wait};

impl Probe for Stage {
    fn serves(&self) -> bool {
        self.send(Request::get("/v1/models")).status == 200
    }
}

/// Asking whether the token `app` still works.
trait Probe {
    fn serves(&self) -> bool;

    /// It works all the time, for longer than two scans and the time between them.
    fn serves_throughout(&self, what: &str) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2500) {
            assert!(self.serves(), "{what}: the token died after {:?}", began.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn complaint(stage: &Stage, parts: &[&str]) {
    let said = || stage.process.stdout() + &stage.process.stderr();
    wait::until(&format!("one line with {parts:?}"), wait::SOON, || {
        said().lines().any(|line| parts.iter().all(|part| line.contains(part)))
    });
}

#[test]
fn a_file_that_is_truncated_and_rewritten_revokes_nothing() {
    let stage = Stage::new("");
    let path = stage.folder.file("token-app.yaml");
    let text = fs::read_to_string(&path).unwrap();
    for (what, content) in [("empty", ""), ("half written", &text[..text.len() / 2]), ("not YAML", "{{{")] {
        fs::write(&path, content).unwrap();
        stage.serves_throughout(what);
        fs::write(&path, &text).unwrap();
        stage.serves_throughout("rewritten");
    }
    assert_eq!(stage.process.key("app"), stage.key, "the value is the same");
}

#[test]
fn a_file_that_is_away_for_a_moment_or_renamed_revokes_nothing() {
    let stage = Stage::new("");
    let (here, there) = (stage.folder.file("token-app.yaml"), stage.folder.file("renamed.yml"));
    for _ in 0..5 {
        // As an editor that writes by delete and create.
        let text = fs::read_to_string(&here).unwrap();
        fs::remove_file(&here).unwrap();
        assert!(stage.serves());
        fs::write(&here, text).unwrap();
    }
    stage.serves_throughout("deleted and created");
    fs::rename(&here, &there).unwrap();
    stage.serves_throughout("renamed");
    assert_eq!(stage.process.key("app"), stage.key);
}

#[test]
fn a_folder_that_vanishes_or_is_emptied_revokes_nothing() {
    let stage = Stage::new("");
    let (path, away) = (stage.folder.path().to_owned(), stage.folder.path().with_extension("away"));
    fs::rename(&path, &away).unwrap();
    stage.serves_throughout("the folder is away");
    fs::create_dir(&path).unwrap();
    stage.serves_throughout("the folder is empty");
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    stage.serves_throughout("the folder is back");
    assert_eq!(stage.process.key("app"), stage.key);
}

#[test]
fn a_real_deletion_revokes_and_a_token_made_again_is_a_new_one() {
    let stage = Stage::with_tokens(&[("app", ""), ("other", "")]);
    let other = stage.process.key("other");
    stage.folder.remove("token-app.yaml");
    wait::until("the revocation", wait::SOON, || !stage.serves());
    assert_eq!(stage.send(Request::chat(false)).code(), "token_inactive");
    wait::until("the end of the .env", wait::SOON, || stage.process.setup().secret("app").is_none());
    assert_eq!(stage.process.send(&Request::get("/v1/models").bearer(&other)).status, 200);
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", ""));
    let new = stage.process.key("app");
    assert_ne!(new, stage.key);
    wait::until("the new token", wait::SOON, || {
        stage.process.send(&Request::get("/v1/models").bearer(&new)).status == 200
    });
    assert!(!stage.serves(), "the old value stays dead");
}

#[test]
fn a_deletion_while_the_process_is_down_is_seen_at_the_next_start() {
    let mut stage = Stage::with_tokens(&[("app", ""), ("other", "")]);
    stage.process.stop();
    stage.folder.remove("token-app.yaml");
    stage.process = stage.process.setup().start();
    wait::until("the revocation", wait::SOON, || !stage.serves());
    let other = stage.process.key("other");
    assert_eq!(stage.process.send(&Request::get("/v1/models").bearer(&other)).status, 200);
}

#[test]
fn broken_manifests_are_named_with_file_line_and_field_and_hold_back_only_themselves() {
    let stage = Stage::new("");
    let token = |spec: &str| {
        format!(
            "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {{name: bad, namespace: team}}\nspec:\n  projectRef: {{name: app}}\n{spec}"
        )
    };
    let cases = [
        ("unknown field", token("  maxRequest: 5\n"), vec!["bad.yaml", "6", "maxRequest"]),
        ("wrong type", token("  maxRequests: many\n"), vec!["bad.yaml", "6", "maxRequests"]),
        ("broken YAML", "kind: [\n".to_owned(), vec!["bad.yaml"]),
        ("out of bounds", token("  ttl: 5s\n"), vec!["bad.yaml", "ttl"]),
        ("missing reference", token("").replace("name: app", "name: nobody"), vec!["bad", "nobody"]),
        ("duplicate name", manifests::token("app", "app", "  ttl: 2h"), vec!["bad.yaml", "app"]),
        ("the same Secret", token("  secret: {name: app}\n"), vec!["bad", "app"]),
    ];
    for (what, text, parts) in cases {
        stage.folder.put("bad.yaml", &text);
        complaint(&stage, &parts);
        assert!(stage.serves(), "{what}");
        stage.folder.remove("bad.yaml");
    }
    stage.serves_throughout("afterwards");
    assert_eq!(stage.process.key("app"), stage.key);
    // A broken edit of a good object keeps its last good state.
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", "  maxRequests: none"));
    complaint(&stage, &["token-app.yaml", "maxRequests"]);
    stage.serves_throughout("a broken edit");
}
