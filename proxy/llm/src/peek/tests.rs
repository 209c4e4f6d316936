//! The peek against tables, against `serde_json`, and against a slow reader of the documented grammar.

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::*;

fn ok(body: &str) -> Peek<'_> {
    peek(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refused(body: &str) -> PeekError {
    peek(body.as_bytes()).expect_err(body)
}

#[test]
fn include_usage_that_stands_twice_is_refused_because_we_and_the_provider_may_each_believe_another_one() {
    for body in [
        r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#,
        r#"{"model":"m","stream_options":{"include_usage":true,"x":{},"Include\u005fUsage":true}}"#,
    ] {
        let name = "stream_options.include_usage";
        assert_eq!(peek(body.as_bytes()), Err(PeekError::Duplicate { name }), "{body}");
    }
}

#[test]
fn the_watched_parameters_are_read() {
    let body = r#" {"model":"gpt-4o", "messages":[{"role":"user","content":"hi \"there\" {["}],
        "stream" : true,"stream_options":{"include_usage":true},"max_completion_tokens":7,"prompt":{"id":"p"}} "#;
    let peeked = ok(body);
    assert_eq!(peeked.model.as_deref(), Some("gpt-4o"));
    assert!(peeked.stream && peeked.include_usage && peeked.has_prompt);
    assert_eq!(peeked.max_tokens, Some(7));
}

#[test]
fn an_empty_object_has_nothing() {
    assert_eq!(
        ok("{}"),
        Peek {
            splice: Splice {
                open: 1,
                ..Splice::default()
            },
            ..Peek::default()
        }
    );
}

#[test]
fn null_is_as_good_as_absent() {
    let peeked = ok(r#"{"model":null,"stream":null,"max_tokens":null,"stream_options":null,"prompt":null}"#);
    let Splice { stream_options, .. } = &peeked.splice;
    assert!(stream_options.is_some());
    assert_eq!(
        Peek {
            splice: Splice::default(),
            ..peeked
        },
        Peek::default()
    );
}

#[test]
fn a_model_without_escapes_is_borrowed_and_one_with_escapes_is_decoded() {
    assert!(matches!(ok(r#"{"model":"gpt-4ö"}"#).model, Some(Cow::Borrowed("gpt-4ö"))));
    let escaped = ok(r#"{"model":"\u0067pt\/4\n\ud83d\ude00\t\"\\\b\f\r"}"#).model;
    assert_eq!(escaped.as_deref(), Some("gpt/4\n😀\t\"\\\u{8}\u{c}\r"));
}

#[test]
fn names_are_compared_after_unescaping_and_without_case() {
    for name in ["model", "MODEL", "mOdEl", r"\u006dodel", r"mode\u006C", r"\u004d\u004F\u0044\u0045\u004c"] {
        let body = format!(r#"{{"{name}":"x"}}"#);
        assert_eq!(ok(&body).model.as_deref(), Some("x"), "{name}");
        let twice = format!(r#"{{"model":"a","n":1,"{name}":"b"}}"#);
        assert_eq!(refused(&twice), PeekError::Duplicate { name: "model" }, "{name}");
    }
}

#[test]
fn every_watched_parameter_may_stand_once_only() {
    for name in WATCHED.into_iter().filter(|name| *name != PROMPT) {
        let body = format!(r#"{{"{name}":null,"{name}":null}}"#);
        assert_eq!(refused(&body), PeekError::Duplicate { name });
    }
}

#[test]
fn unwatched_names_and_deeper_levels_may_repeat() {
    ok(r#"{"n":1,"n":2,"a":{"model":1,"model":2},"metadata":[{"stream":1}],"prompt":"a","prompt":"b","model":"x"}"#);
}

#[test]
fn max_tokens_and_its_kin_may_stand_together_and_the_largest_counts() {
    assert_eq!(
        ok(r#"{"max_tokens":5,"max_completion_tokens":9,"max_output_tokens":7}"#).max_tokens,
        Some(9)
    );
}

#[test]
fn counts_are_read_in_every_notation() {
    let cases = [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("16", Some(16)),
        ("9223372036854775808", Some(1 << 63)),
        ("18446744073709551616", Some(u64::MAX)),
        ("1e3", Some(1000)),
        ("1e999", Some(u64::MAX)),
        ("1.5", Some(2)),
        ("-1", None),
        ("-1e9", None),
    ];
    for (written, expected) in cases {
        assert_eq!(ok(&format!(r#"{{"max_tokens":{written}}}"#)).max_tokens, expected, "{written}");
    }
}

#[test]
fn wrong_types_of_watched_parameters_are_refused() {
    let cases = [
        (r#"{"model":5}"#, "model"),
        (r#"{"model":["a"]}"#, "model"),
        (r#"{"model":true}"#, "model"),
        (r#"{"stream":"true"}"#, "stream"),
        (r#"{"stream":1}"#, "stream"),
        (r#"{"stream":TRUE}"#, "stream"),
        (r#"{"max_tokens":"5"}"#, "max_tokens"),
        (r#"{"max_output_tokens":[]}"#, "max_output_tokens"),
        (r#"{"max_tokens":NaN}"#, "max_tokens"),
        (r#"{"max_tokens":-inf}"#, "max_tokens"),
        (r#"{"max_tokens":1x}"#, "max_tokens"),
        (r#"{"stream_options":true}"#, "stream_options"),
        (r#"{"stream_options":[]}"#, "stream_options"),
    ];
    for (body, expected) in cases {
        assert!(matches!(refused(body), PeekError::WrongType { name, .. } if name == expected), "{body}");
    }
}

#[test]
fn what_is_no_json_object_is_refused_at_the_byte_where_it_breaks() {
    let json = |offset| PeekError::NotJson { offset };
    let cases = [
        ("", json(0)),
        ("   ", json(3)),
        ("<html>", json(0)),
        ("\u{feff}{}", json(0)),
        ("[]", PeekError::NotAnObject),
        ("\"a\"", PeekError::NotAnObject),
        ("null", PeekError::NotAnObject),
        ("7", PeekError::NotAnObject),
        ("{", json(1)),
        ("{]", json(1)),
        ("{}x", json(2)),
        ("{}{}", json(2)),
        ("{}\0", json(2)),
        (r#"{"a":1,}"#, json(7)),
        (r#"{"a" 1}"#, json(5)),
        (r#"{"a":}"#, json(5)),
        (r#"{"a":,"b":1}"#, json(5)),
        (r#"{"a":1 2}"#, json(7)),
        (r#"{"a":1"b":2}"#, json(6)),
        (r#"{a:1}"#, json(1)),
        (r#"{'a':1}"#, json(1)),
        (r#"{"a":'x'}"#, json(5)),
        (r#"{"a":[}"#, json(6)),
        (r#"{"a":[1}"#, json(7)),
        (r#"{"a":{"b":1]}"#, json(11)),
        (r#"{"a":[1,2}"#, json(9)),
        (r#"{"a":"x}"#, json(8)),
        (r#"{"a":"x\"}"#, json(10)),
        (r#"{"a":"x\"#, json(8)),
        (r#"{"a":[/*"model":1*/]}"#, json(6)),
        ("{\"a\u{1}\":1}", json(3)),
        (r#"{"\x":1}"#, json(2)),
        (r#"{"\ud800":1}"#, json(2)),
        (r#"{"\u12":1}"#, json(2)),
        (r#"{"model":"\ud83d"}"#, json(10)),
        (r#"{"model":"\udc00\ud83d"}"#, json(10)),
        ("{\"model\":\"a\nb\"}", json(11)),
        (r#"{"stream_options":{"include_usage":true,}}"#, json(40)),
    ];
    for (body, expected) in cases {
        assert_eq!(refused(body), expected, "{body}");
    }
    assert_eq!(peek(b"{\"a\":\"\xff\"}"), Err(PeekError::NotUtf8));
    assert_eq!(peek(b"{\"a\":\"\xed\xa0\x80\"}"), Err(PeekError::NotUtf8));
}

#[test]
fn values_are_the_providers_affair() {
    for value in [
        "nul",
        "01",
        "1.",
        "--5",
        "NaN",
        r#""\x""#,
        "\"\u{1}\"",
        r#""\ud800""#,
        "[1 2]",
        "[,]",
        "[:]",
        r#"{"a"}"#,
        r#"{"a":1,}"#,
    ] {
        ok(&format!(r#"{{"model":"m","x":{value}}}"#));
    }
}

#[test]
fn a_hundred_and_twenty_eight_levels_are_the_limit() {
    let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    ok(&nested(128));
    assert_eq!(refused(&nested(129)), PeekError::TooDeep);
    assert_eq!(refused(&format!(r#"{{"a":{}"#, "[{\"b\":".repeat(1 << 20))), PeekError::TooDeep);
    let mixed = format!(r#"{{"stream_options":{}{}}}"#, r#"{"a":"#.repeat(127) + "1", "}".repeat(127));
    ok(&mixed);
}

#[test]
fn the_splice_points_name_the_values() {
    let body = r#"{"model":"m","stream_options": {"x":1,"include_usage" : false }}"#;
    let Splice {
        open,
        stream_options,
        include_usage,
    } = ok(body).splice;
    assert_eq!(open, 1);
    assert_eq!(stream_options.map(|range| &body[range]), Some(r#"{"x":1,"include_usage" : false }"#));
    assert_eq!(include_usage.map(|range| &body[range]), Some("false"));
}

#[test]
fn errors_say_what_to_do_in_openai_terms() {
    let errors = [
        PeekError::NotUtf8,
        PeekError::NotJson { offset: 17 },
        PeekError::NotAnObject,
        PeekError::TooDeep,
        PeekError::Duplicate { name: "model" },
        PeekError::WrongType {
            name: "stream",
            expected: "a boolean",
        },
    ];
    let shown: Vec<String> = errors
        .iter()
        .map(|error| String::from_utf8(error.to_api_error().to_body().to_vec()).unwrap())
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

/// The members of the outermost object as `serde_json` reads them, repeated ones included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// What the peek should say of members that `serde_json` has read.
fn by_the_book(members: &[(String, Value)]) -> Result<Peek<'static>, PeekError> {
    let mut expected = Peek::default();
    let mut seen = Vec::new();
    for (name, value) in members {
        let Some(name) = WATCHED.into_iter().find(|watched| watched.eq_ignore_ascii_case(name)) else {
            continue;
        };
        if seen.contains(&name) && name != "prompt" {
            return Err(PeekError::Duplicate { name });
        }
        seen.push(name);
        let wrong = |expected| Err(PeekError::WrongType { name, expected });
        match (name, value) {
            (_, Value::Null) => {}
            ("model", Value::String(model)) => expected.model = Some(Cow::Owned(model.clone())),
            ("model", _) => return wrong("a string"),
            ("stream", Value::Bool(stream)) => expected.stream = *stream,
            ("stream", _) => return wrong("a boolean"),
            ("stream_options", Value::Object(options)) => expected.include_usage = options.get("include_usage") == Some(&Value::Bool(true)),
            ("stream_options", _) => return wrong("an object"),
            ("prompt", _) => expected.has_prompt = true,
            (_, Value::Number(number)) => {
                let count = number
                    .as_u64()
                    .or_else(|| number.as_f64().filter(|float| *float >= 0.0).map(|float| float.ceil() as u64));
                expected.max_tokens = expected.max_tokens.max(count);
            }
            _ => return wrong("an integer"),
        }
    }
    Ok(expected)
}

/// Whether the text follows the documented grammar: the outermost object's members exactly, values by their brackets and strings only.
fn follows_the_grammar(text: &str) -> bool {
    fn blank(rest: &mut &[u8]) {
        while let Some((b' ' | b'\t' | b'\n' | b'\r', after)) = rest.split_first() {
            *rest = after;
        }
    }
    fn eat(rest: &mut &[u8], byte: u8) -> bool {
        blank(rest);
        let found = rest.first() == Some(&byte);
        if found {
            *rest = &rest[1..];
        }
        found
    }
    fn string(rest: &mut &[u8]) -> bool {
        let mut at = 1;
        while at < rest.len() {
            match rest[at] {
                b'"' => {
                    *rest = &rest[at + 1..];
                    return true;
                }
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        false
    }
    fn value(rest: &mut &[u8]) -> bool {
        blank(rest);
        let mut closers = Vec::new();
        let mut any = false;
        while let Some(byte) = rest.first().copied() {
            match byte {
                b'"' => {
                    if any && closers.is_empty() {
                        return true;
                    }
                    if !string(rest) {
                        return false;
                    }
                }
                b'{' | b'[' => {
                    if any && closers.is_empty() {
                        return true;
                    }
                    closers.push(if byte == b'{' { b'}' } else { b']' });
                    *rest = &rest[1..];
                }
                b'}' | b']' => {
                    if closers.is_empty() {
                        return any;
                    }
                    if closers.pop() != Some(byte) {
                        return false;
                    }
                    *rest = &rest[1..];
                }
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' if closers.is_empty() => return any,
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => *rest = &rest[1..],
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.' => *rest = &rest[1..],
                _ => return any && closers.is_empty(),
            }
            any = true;
        }
        any && closers.is_empty()
    }
    let mut rest = text.as_bytes();
    if !eat(&mut rest, b'{') {
        return false;
    }
    if !eat(&mut rest, b'}') {
        loop {
            blank(&mut rest);
            if rest.first() != Some(&b'"') || !string(&mut rest) || !eat(&mut rest, b':') || !value(&mut rest) {
                return false;
            }
            if eat(&mut rest, b',') {
                continue;
            }
            if eat(&mut rest, b'}') {
                break;
            }
            return false;
        }
    }
    blank(&mut rest);
    rest.is_empty()
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let peeked = peek(text.as_bytes());
    // Of names that repeat below the top the book keeps the last only.
    let below_the_top = Err(PeekError::Duplicate { name: INCLUDE_USAGE });
    if peeked != below_the_top
        && let Ok(Members(members)) = serde_json::from_str(text)
    {
        let bare = peeked.clone().map(|peeked| Peek {
            splice: Splice::default(),
            ..peeked
        });
        prop_assert_eq!(bare, by_the_book(&members), "{}", text);
    }
    if peeked.is_ok() {
        prop_assert!(follows_the_grammar(text), "accepted: {}", text);
    }
    Ok(())
}

fn name() -> impl Strategy<Value = String> {
    let watched = prop::sample::select(WATCHED.to_vec()).prop_flat_map(|name| {
        prop::collection::vec(0u8..4, name.len()).prop_map(move |ways| {
            let spell = |(char, way): (char, u8)| match way {
                0 => format!("\\u{:04x}", u32::from(char)),
                1 => char.to_ascii_uppercase().to_string(),
                _ => char.to_string(),
            };
            name.chars().zip(ways).map(spell).collect::<String>()
        })
    });
    prop_oneof![3 => watched, 1 => "[a-z_]{0,8}", 1 => Just("include_usage".to_owned())]
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        (0u32..100, 0u32..30).prop_map(|(digits, exponent)| format!("{digits}.5e{exponent}")),
        any::<String>().prop_map(|text| Value::String(text).to_string()),
        "[a-z0-9-]{1,8}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((name(), inner), 0..5).prop_map(|members| object(&members)),
        ]
    })
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\" :{value}")).collect();
    format!("{{{}}}", members.join(",\n"))
}

fn document() -> impl Strategy<Value = String> {
    prop::collection::vec((name(), value()), 0..6).prop_map(|members| object(&members))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_are_read_as_serde_json_reads_them(text in document()) {
        prop_assert!(serde_json::from_str::<Members>(&text).is_ok());
        check(&text)?;
    }

    #[test]
    fn damaged_documents_are_judged_as_serde_json_and_the_grammar_judge_them(text in document(), at in any::<prop::sample::Index>(),
        damage in prop::sample::select(vec!["", "{", "}", "[", "]", "\"", "\\", ",", ":", " ", "0", "/", "\u{0}", "ä"]), cut in 0usize..3) {
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len() + 1);
        let damaged: String = chars[..at].iter().copied().chain(damage.chars()).chain(chars[(at + cut).min(chars.len())..].iter().copied()).collect();
        check(&damaged)?;
    }

    #[test]
    fn sequences_of_tokens_are_judged_as_serde_json_and_the_grammar_judge_them(tokens in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"model\"", "\"stream\"", "\"a\"", "null", "true", "1", " ", "\"", "\\"]), 0..12)) {
        check(&tokens.concat())?;
        check(&format!("{{\"a\":{}}}", tokens.concat()))?;
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = peek(&bytes);
    }
}
