//! `standalone --check`: validates, says file, line and field, and touches nothing.

use std::io::Write;
use std::process::Stdio;

use crate::process::{Ended, Place, llm_proxy, repository};

fn check(place: &Place) -> Ended {
    let ended = place.standalone().arg("--check").output().unwrap().into();
    assert!(!place.data().exists(), "--check makes no data directory");
    ended
}

#[test]
fn the_quickstart_is_valid() {
    let ended = check(&Place::quickstart());
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "3 objects valid\n", "")
    );
}

#[test]
fn a_fault_is_told_in_one_line_with_file_line_and_field() {
    let place = Place::quickstart();
    place.write(
        "token.yaml",
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata:\n  name: hello\nspec:\n  projectRef:\n    name: demo\n  maxRequest: 5\n",
    );
    let ended = check(&place);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let fault = ended
        .stderr
        .lines()
        .find(|line| line.contains("maxRequest"))
        .unwrap_or_else(|| panic!("{ended:?}"));
    assert!(fault.starts_with("error: ") && fault.contains("token.yaml:"), "{fault}");
}

#[test]
fn the_openai_example_is_valid_with_the_piped_secret_and_not_without() {
    let example = repository().join("examples/openai");
    let mut alone = llm_proxy(["standalone", "--check", "-f"]);
    let ended: Ended = alone.arg(&example).output().unwrap().into();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("openai"), "{ended:?}");

    let mut piped = llm_proxy(["standalone", "--check", "-f", "-", "-f"]);
    let mut child = piped
        .arg(&example)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: openai}, stringData: {api-key: sk-canary}}";
    child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(!ended.stdout.contains("sk-canary"));
}

#[test]
fn a_path_that_does_not_exist_is_a_fault() {
    let ended: Ended = llm_proxy(["standalone", "--check", "-f", "/nonexistent/manifests"])
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/nonexistent/manifests"), "{ended:?}");
}
