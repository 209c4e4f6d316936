//! The loader's goldens: what is wrong in a manifest comes out as file, line and field, in one line each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::PathBuf;

use operator::files::{ClaimError, Sources, check, claim_of};

const FLEET: &str = "apiVersion: llm-proxy.dev/v1alpha1
kind: ProxyConfig
metadata:
  name: main
spec:
  database:
    sqlite: {}
  providers:
    - name: openai
      api: OpenAI
      baseURL: https://api.openai.com
";

const PROJECT: &str = "apiVersion: llm-proxy.dev/v1alpha1
kind: LLMProject
metadata:
  name: shop
spec:
  proxyRef:
    name: main
  providers:
    - name: openai
      credentials:
        secretRef:
          name: openai
";

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
  name: openai
stringData:
  api-key: sk-canary
";

const TOKEN: &str = "apiVersion: llm-proxy.dev/v1alpha1
kind: WitheringToken
metadata:
  name: web
spec:
  projectRef:
    name: shop
  ttl: 1h
";

/// Writes the files into a folder and checks it; the faults, with the folder cut off.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let report = check(&Sources::new(vec![dir.path().to_path_buf()], None));
    let prefix = format!("{}/", dir.path().display());
    report.faults.iter().map(|fault| fault.to_string().replace(&prefix, "")).collect()
}

/// A whole set of manifests with another token.
fn with_token(token: &str) -> Vec<String> {
    faults(&[
        ("fleet.yaml", FLEET),
        ("project.yaml", PROJECT),
        ("secret.yaml", SECRET),
        ("token.yaml", token),
    ])
}

#[test]
fn a_whole_set_has_no_fault_in_one_file_or_in_several() {
    assert_eq!(with_token(TOKEN), [""; 0]);
    assert_eq!(faults(&[("all.yml", &[FLEET, PROJECT, SECRET, TOKEN].join("---\n"))]), [""; 0]);
}

#[test]
fn an_unknown_field_is_named_with_the_one_that_was_meant() {
    assert_eq!(
        with_token(&TOKEN.replace("ttl:", "tttl:")),
        ["token.yaml:8: spec.tttl: unknown field; did you mean ttl?"]
    );
}

#[test]
fn a_wrong_type_is_named_without_its_value() {
    assert_eq!(
        with_token(&TOKEN.replace("ttl: 1h", "ttl: 90")),
        ["token.yaml:8: spec.ttl: must be a string, not a number; put it in quotes"]
    );
    let pasted = PROJECT.replace("credentials:\n        secretRef:\n          name: openai", "credentials: sk-canary");
    let said = faults(&[("fleet.yaml", FLEET), ("project.yaml", &pasted)]);
    assert_eq!(said, ["project.yaml:10: spec.providers[0].credentials: must be a mapping, not a string"]);
}

#[test]
fn a_missing_field_is_named_at_the_line_of_what_should_hold_it() {
    assert_eq!(
        with_token(&TOKEN.replace("  projectRef:\n    name: shop\n", "")),
        ["token.yaml:5: spec.projectRef: is required"]
    );
    assert_eq!(
        faults(&[(
            "t.yaml",
            "apiVersion: llm-proxy.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: main}\n"
        )])[0],
        "t.yaml:1: spec: is required"
    );
}

#[test]
fn every_broken_rule_of_a_spec_is_told() {
    assert_eq!(
        with_token(&TOKEN.replace("ttl: 1h", "maxRequests: 0\n  ttl: 10s")),
        [
            "token.yaml:8: spec.maxRequests: must be at least 1 and at most 9007199254740991; leave it out for no limit",
            "token.yaml:9: spec.ttl: must be from 1m to 8760h (365 days)",
        ]
    );
    assert_eq!(
        with_token(&TOKEN.replace("ttl: 1h", "state: Paused")),
        ["token.yaml:8: spec.state: must be one of Active, Suspended, Revoked"]
    );
}

#[test]
fn broken_yaml_is_told_by_its_line_and_holds_back_only_its_own_document() {
    let broken = format!("{PROJECT}---\nspec: [1,\n---\n{TOKEN}");
    let said = faults(&[("fleet.yaml", FLEET), ("rest.yaml", &broken), ("secret.yaml", SECRET)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("rest.yaml:1") && said[0].contains(": broken YAML: "), "{said:?}");
}

#[test]
fn a_name_declared_twice_is_told_at_both_places() {
    let said = faults(&[
        ("fleet.yaml", FLEET),
        ("a.yaml", PROJECT),
        ("b.yaml", &format!("# again\n{PROJECT}")),
        ("secret.yaml", SECRET),
    ]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("a.yaml:4: metadata.name: LLMProject default/shop is declared again at ") && said[0].contains("b.yaml:2"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("b.yaml:5: metadata.name: ") && said[1].contains("a.yaml:1"),
        "{said:?}"
    );
}

#[test]
fn a_reference_to_nothing_is_told_at_the_reference() {
    assert_eq!(
        faults(&[("fleet.yaml", FLEET), ("token.yaml", TOKEN)]),
        ["token.yaml:7: spec.projectRef.name: LLMProject default/shop does not exist; add its manifest"]
    );
    assert_eq!(
        faults(&[
            ("fleet.yaml", &FLEET.replace("name: openai", "name: azure")),
            ("project.yaml", PROJECT),
            ("secret.yaml", SECRET)
        ]),
        ["project.yaml:9: spec.providers[0].name: ProxyConfig default/main has no provider openai; add it there or name another"]
    );
    assert_eq!(
        faults(&[("fleet.yaml", FLEET), ("project.yaml", PROJECT)]),
        [
            "project.yaml:12: spec.providers[0].credentials.secretRef.name: Secret default/openai does not exist; \
             add its manifest, or pipe it in with -f -"
        ]
    );
    assert_eq!(
        faults(&[
            ("fleet.yaml", FLEET),
            ("project.yaml", PROJECT),
            ("secret.yaml", &SECRET.replace("api-key:", "apikey:"))
        ]),
        ["project.yaml:11: spec.providers[0].credentials.secretRef.key: Secret default/openai has no value under \"api-key\"; add it there"]
    );
    let nothing_to_pay = FLEET.replace("baseURL:", "auth: None\n      baseURL:");
    assert_eq!(
        faults(&[("fleet.yaml", &nothing_to_pay), ("project.yaml", PROJECT)]),
        [""; 0],
        "a keyless provider needs no Secret"
    );
}

#[test]
fn two_tokens_for_one_secret_are_told_at_both_places() {
    let other = TOKEN.replace("name: web", "name: other").replace("ttl: 1h", "secret:\n    name: web");
    let said = with_token(&format!("{TOKEN}---\n{other}"));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("token.yaml:5: spec.secret.name: WitheringToken default/other at "),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("token.yaml:18: spec.secret.name: WitheringToken default/web at "),
        "{said:?}"
    );
}

#[test]
fn a_token_that_wants_a_declared_secret_is_told() {
    let said = with_token(&TOKEN.replace("ttl: 1h", "secret: {name: openai}"));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("token.yaml:8: spec.secret.name: Secret default/openai is itself a manifest, at "),
        "{said:?}"
    );
}

#[test]
fn ten_thousand_tokens_are_judged_in_time_that_grows_with_their_number() {
    let seconds = |count: usize| {
        let tokens: String = (0..count)
            .map(|n| format!("---\n{}", TOKEN.replace("name: web", &format!("name: t{n}"))))
            .collect();
        let began = std::time::Instant::now();
        assert!(faults(&[("a.yaml", FLEET), ("b.yaml", PROJECT), ("c.yaml", SECRET), ("tokens.yaml", &tokens)]).is_empty());
        began.elapsed().as_secs_f64()
    };
    let (few, many) = (seconds(1_000), seconds(10_000));
    assert!(many < 40.0 * few.max(0.001), "{few} s for a tenth, {many} s for all");
}

#[test]
fn numbers_and_lifetimes_out_of_shape_are_told_with_the_remedy() {
    let said = with_token(&TOKEN.replace("ttl: 1h", "ttl: 525600m"));
    assert!(said.iter().any(|fault| fault.contains("spec.ttl: is out of range")), "{said:?}");
    let said = with_token(&TOKEN.replace("ttl: 1h", "maxRequests: 1e3"));
    assert!(
        said[0].contains("spec.maxRequests: must be a whole number, not a number; write it with digits alone"),
        "{said:?}"
    );
}

#[test]
fn what_is_not_ours_is_told_by_kind_or_version() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    let said = faults(&[("fleet.yaml", FLEET), ("x.yaml", deployment)]);
    assert!(
        said[0].starts_with("x.yaml:1: apiVersion: \"Deployment\" of \"apps/v1\" is not for llm-proxy: keep it out of "),
        "{said:?}"
    );
    let slip = TOKEN.replace("WitheringToken", "WiteringToken");
    assert!(
        with_token(&slip)[0].starts_with("token.yaml:2: kind: \"WiteringToken\" is not known: "),
        "{:?}",
        with_token(&slip)
    );
    for (wrong, right, remedy) in [
        ("llm-proxy.dev/v1alpha1", "llm-proxy.dev/v1", "write apiVersion: llm-proxy.dev/v1alpha1"),
        ("kind: WitheringToken", "kind: witheringtoken", "write kind: WitheringToken"),
        (
            "apiVersion: llm-proxy.dev/v1alpha1\n",
            "",
            "is missing: write apiVersion: llm-proxy.dev/v1alpha1",
        ),
    ] {
        let said = with_token(&TOKEN.replacen(wrong, right, 1));
        assert!(said[0].contains(remedy), "{said:?}");
    }
}

#[test]
fn a_name_that_could_be_a_path_is_refused() {
    let said = with_token(&TOKEN.replace("name: web", "name: ../../web"));
    assert!(said[0].starts_with("token.yaml:4: metadata.name: must be 1 to 253 "), "{said:?}");
    let long = "x".repeat(188);
    let said = with_token(&TOKEN.replace("name: web", &format!("name: {long}")));
    assert!(
        said[0].starts_with("token.yaml:4: metadata.name: must be at most 187 characters"),
        "{said:?}"
    );
}

#[test]
fn a_list_is_read_item_by_item() {
    let list = "apiVersion: v1
kind: List
items:
  - apiVersion: llm-proxy.dev/v1alpha1
    kind: WitheringToken
    metadata: {name: one}
    spec: {projectRef: {name: shop}}
  - apiVersion: llm-proxy.dev/v1alpha1
    kind: WitheringToken
    metadata: {name: two}
    spec:
      projectRef: {name: shop}
      ttl: soon
";
    let said = with_token(list);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("token.yaml:13: spec.ttl: must be a duration"), "{said:?}");
}

#[test]
fn no_fault_repeats_a_secret() {
    let base64_missing = SECRET.replace("stringData", "data");
    let said = faults(&[("fleet.yaml", FLEET), ("project.yaml", PROJECT), ("secret.yaml", &base64_missing)]);
    assert_eq!(
        said[0].split(": ").take(2).collect::<Vec<_>>(),
        ["project.yaml:12", "spec.providers[0].credentials.secretRef.name"]
    );
    assert_eq!(said[1], "secret.yaml:6: data.api-key: must be base64; plain text belongs in stringData");
    assert!(said.iter().all(|fault| !fault.contains("canary")), "{said:?}");
}

#[test]
fn exactly_one_proxy_config_makes_a_claim() {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources::new(vec![dir.path().to_path_buf()], None);
    let report = check(&sources);
    assert_eq!(report.objects, 0);
    assert!(
        report.faults[0]
            .to_string()
            .ends_with("no ProxyConfig is declared; exactly one is needed"),
        "{:?}",
        report.faults
    );
    assert_eq!(claim_of(&report), Err(ClaimError::Absent));

    fs::write(dir.path().join("a.yaml"), FLEET).unwrap();
    assert_eq!(claim_of(&check(&sources)).unwrap().to_string(), "standalone/default/main");

    fs::write(dir.path().join("b.yaml"), FLEET.replace("name: main", "name: other\n  namespace: team")).unwrap();
    let report = check(&sources);
    assert_eq!(
        claim_of(&report),
        Err(ClaimError::Several(vec!["default/main".to_owned(), "team/other".to_owned()]))
    );
    assert_eq!(report.faults.len(), 2);
}

#[test]
fn standard_input_is_a_source_like_any_other() {
    let piped = [FLEET, PROJECT, SECRET].join("---\n") + "---\n" + &TOKEN.replace("ttl: 1h", "ttl: 1w");
    let report = check(&Sources::new(Vec::<PathBuf>::new(), Some(piped)));
    assert_eq!(report.objects, 2);
    let said: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("<stdin>:40: spec.ttl: must be a duration"), "{said:?}");
}
