//! The table and its look-up.

use std::collections::HashSet;

use super::*;

fn kind(path: &str) -> Option<EndpointKind> {
    find(path).map(|endpoint| endpoint.kind)
}

#[test]
fn endpoints_are_known_with_and_without_v1() {
    for endpoint in all() {
        let path = endpoint.path.replace("{id}", "id_1");
        for path in [path.clone(), format!("/v1{path}")] {
            let found = find(&path).map(|found| found.path);
            assert_eq!(found, Some(endpoint.path), "{path}");
        }
    }
}

#[test]
fn no_two_rows_have_one_path() {
    let paths: HashSet<_> = all().iter().map(|endpoint| endpoint.path).collect();
    assert_eq!(paths.len(), all().len());
}

#[test]
fn only_exact_paths_are_found() {
    let strangers = [
        "",
        "/",
        "/v1",
        "/v1/",
        "v1/models",
        "models",
        "/v1/modelsXYZ",
        "/v1/models/",
        "/v1/models//",
        "/v1//models",
        "//v1/models",
        "/v1/v1/models",
        "/v1models",
        "/V1/models",
        "/v1/Models",
        "/v2/models",
        "/v1/models/a/b",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1/chat/completions/x",
        "/v1/chat%2Fcompletions",
        "/v1/files//content",
        "/v1/files/a/b/content",
        "/v1/organization/admin_api_keys",
        "/v1/realtime",
        "/api/v1/models",
    ];
    for path in strangers {
        assert_eq!(kind(path), None, "{path}");
    }
}

#[test]
fn an_id_cannot_lead_out_of_the_table() {
    let ids = [
        ".",
        "..",
        "...",
        "%2e%2e",
        ".%2E",
        "..%2Forganization%2Fusers",
        "a%2F..%2F..%2Forganization",
        "a%2f%2e%2e",
        "%2Fa",
        "a%2F",
        "a%2F%2Fb",
        "a%5C..",
        "a\\b",
        "%",
        "%2",
        "%zz",
        "a%252e",
        "a%00",
        "a%0d%0ab",
        "a?b",
        "a#b",
    ];
    for id in ids {
        assert_eq!(kind(&format!("/v1/models/{id}")), None, "{id}");
    }
}

#[test]
fn ids_of_models_may_have_dots_colons_and_encoded_slashes() {
    for id in [
        "gpt-4.1",
        "ft:gpt-4o-mini:org::abc",
        "meta-llama%2FLlama-3.1-8B",
        "echo-20ms",
        "a..b",
        "m%C3%B6del",
    ] {
        let path = format!("/v1/models/{id}");
        assert_eq!(kind(&path), Some(EndpointKind::Model), "{id}");
        assert_eq!(find(&path).and_then(|endpoint| endpoint.id_in(&path)), Some(id));
    }
}

#[test]
fn an_id_is_found_in_the_middle_of_a_path() {
    let path = "/files/file-7/content";
    assert_eq!(find(path).and_then(|endpoint| endpoint.id_in(path)), Some("file-7"));
}

#[test]
fn a_written_out_path_wins_over_an_id() {
    assert_eq!(find("/v1/responses/compact").map(|endpoint| endpoint.path), Some("/responses/compact"));
    assert_eq!(find("/v1/responses/resp_1").map(|endpoint| endpoint.path), Some("/responses/{id}"));
}

#[test]
fn methods_are_checked_and_named() {
    let chat = find("/v1/chat/completions").unwrap();
    assert!(chat.allows(&Method::POST));
    for method in [Method::GET, Method::DELETE, Method::PUT, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
        assert!(!chat.allows(&method), "{method}");
    }
    let every = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    for endpoint in all() {
        let allowed: Vec<_> = every.iter().filter(|method| endpoint.allows(method)).map(Method::as_str).collect();
        assert_eq!(allowed.join(", "), endpoint.allow_header(), "{}", endpoint.path);
    }
}

#[test]
fn only_a_post_has_a_body() {
    let files = find("/v1/files").unwrap();
    assert_eq!(files.body_of(&Method::POST), BodyKind::Multipart);
    assert_eq!(files.body_of(&Method::GET), BodyKind::None);
}

#[test]
fn the_table_is_as_it_was_agreed() {
    let rows: Vec<String> = all()
        .iter()
        .map(|e| {
            format!(
                "{:32} {:12} {:9} {:18} metered={:5} streams={}",
                e.path,
                e.allow_header(),
                format!("{:?}", e.body),
                format!("{:?}", e.model),
                e.metered,
                e.streams
            )
        })
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn the_path_sent_upstream_always_has_v1_once() {
    let cases = [
        ("", "/v1/models", "/v1/models"),
        ("/", "/models", "/v1/models"),
        ("/v1", "/v1/models", "/v1/models"),
        ("/v1/", "/models", "/v1/models"),
        ("/openai", "/v1/models", "/openai/v1/models"),
        ("/openai/", "/models", "/openai/v1/models"),
        ("/openai/v1", "/v1/models", "/openai/v1/models"),
        ("/openai/v1//", "/models", "/openai/v1/models"),
        ("/xv1", "/v1/models", "/xv1/v1/models"),
        ("/v1/v1", "/v1/models", "/v1/v1/models"),
    ];
    for (base, path, expected) in cases {
        assert_eq!(upstream_path(base, path), expected, "{base} {path}");
    }
}

#[test]
fn an_unchanged_path_is_not_copied() {
    assert!(matches!(upstream_path("/v1", "/v1/chat/completions"), Cow::Borrowed(_)));
}

#[test]
fn a_missing_model_is_refused_where_one_is_needed() {
    let none = Peek::default();
    let empty = Peek {
        model: Some(Cow::Borrowed("")),
        ..Peek::default()
    };
    let named = Peek {
        model: Some(Cow::Borrowed("gpt-4o")),
        ..Peek::default()
    };
    let prompted = Peek {
        has_prompt: true,
        ..Peek::default()
    };
    let check = |path: &str, peeked: &Peek<'_>| {
        find(path)
            .unwrap()
            .check_model(peeked)
            .map_err(|error| (error.status.as_u16(), error.code, error.param))
    };
    let missing = Err((400, "missing_required_parameter", Some("model")));
    assert_eq!(check("/v1/chat/completions", &none), missing);
    assert_eq!(check("/v1/chat/completions", &empty), missing);
    assert_eq!(check("/v1/chat/completions", &prompted), missing);
    assert_eq!(check("/v1/chat/completions", &named), Ok(()));
    assert_eq!(check("/v1/responses", &none), missing);
    assert_eq!(check("/v1/responses", &prompted), Ok(()));
    assert_eq!(check("/v1/moderations", &none), Ok(()));
    assert_eq!(check("/v1/files", &none), Ok(()));
}
