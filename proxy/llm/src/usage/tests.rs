//! What providers report, and what they should not.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// The same by a full parse: what the quick reader must agree with.
fn parsed(object: &[u8]) -> Option<Usage> {
    let report: Value = serde_json::from_slice(object).ok()?;
    let counted = |report: &Value, name: &str| match report.get(name) {
        None | Some(Value::Null) => Count::Absent,
        Some(value) => {
            let whole = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=1e9).contains(n));
            whole.map_or(Count::Absurd, |n| Count::Tokens(n as u64))
        }
    };
    let details = |name: &str, of: &str| report.get(name).filter(|value| value.is_object()).map(|group| counted(group, of));
    let report = Report {
        input: ["prompt_tokens", "input_tokens"].map(|name| counted(&report, name)),
        output: ["completion_tokens", "output_tokens"].map(|name| counted(&report, name)),
        total: counted(&report, "total_tokens"),
        cached: ["prompt_tokens_details", "input_tokens_details"].map(|name| details(name, "cached_tokens")),
        reasoning: ["completion_tokens_details", "output_tokens_details"].map(|name| details(name, "reasoning_tokens")),
    };
    report.usage()
}

fn report_text() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (0..2_000_000_000u64).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "null", "-1", "-0", "0", "12.0", "1.5", "1e2", "1e400", "\"7\"", "true", "[1,{}]", "{}"
        ])
        .prop_map(str::to_owned),
    ];
    let detail = prop_oneof![
        number.clone(),
        (prop::sample::select(vec!["cached_tokens", "reasoning_tokens", "x"]), number.clone()).prop_map(|(name, n)| format!("{{\"{name}\" : {n}}}")),
    ];
    let names = vec!["prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens", "x"];
    let groups = vec![
        "prompt_tokens_details",
        "input_tokens_details",
        "completion_tokens_details",
        "output_tokens_details",
    ];
    let member = prop_oneof![
        (prop::sample::select(names), number).prop_map(|(name, n)| format!("\"{name}\":{n}")),
        (prop::sample::select(groups), detail).prop_map(|(name, detail)| format!("\"{name}\" : {detail}")),
    ];
    prop::collection::vec(member, 0..7).prop_map(|members| format!("{{{}}}", members.join(", ")))
}

fn usage(input: u64, cached: u64, output: u64, reasoning: u64) -> Option<Usage> {
    Some(Usage {
        input,
        cached,
        output,
        reasoning,
    })
}

#[test]
fn both_vocabularies_and_their_details_are_read() {
    let chat = br#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0},
        "completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
    assert_eq!(Usage::read(chat), usage(19, 8, 10, 4));
    let responses = br#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":1},"output_tokens":87,
        "output_tokens_details":{"reasoning_tokens":2},"total_tokens":123}"#;
    assert_eq!(Usage::read(responses), usage(36, 1, 87, 2));
    assert_eq!(Usage::read(br#"{"prompt_tokens":8,"total_tokens":8}"#), usage(8, 0, 0, 0));
    assert_eq!(
        Usage::read(br#"{"prompt_tokens":1,"input_tokens":9,"completion_tokens":2,"output_tokens":9}"#),
        usage(1, 0, 2, 0)
    );
}

#[test]
fn one_missing_part_is_taken_from_the_total() {
    assert_eq!(Usage::read(br#"{"prompt_tokens":8,"total_tokens":10}"#), usage(8, 0, 2, 0));
    assert_eq!(Usage::read(br#"{"completion_tokens":8,"total_tokens":10}"#), usage(2, 0, 8, 0));
    assert_eq!(Usage::read(br#"{"prompt_tokens":8,"completion_tokens":null}"#), usage(8, 0, 0, 0));
    assert_eq!(Usage::read(br#"{"prompt_tokens":8,"total_tokens":3}"#), usage(8, 0, 0, 0));
    assert_eq!(Usage::read(br#"{"completion_tokens":8,"total_tokens":3}"#), None);
    assert_eq!(Usage::read(br#"{"completion_tokens":8}"#), None);
}

#[test]
fn absurd_counts_make_the_report_absent() {
    for absurd in [
        "-1",
        "1.5",
        "1000000001",
        "9223372036854775808",
        "1e400",
        "1e18",
        "\"12\"",
        "true",
        "[]",
        "{}",
    ] {
        let prompt = format!(r#"{{"prompt_tokens":{absurd},"completion_tokens":1,"total_tokens":5}}"#);
        assert_eq!(Usage::read(prompt.as_bytes()), None, "{absurd}");
        let completion = format!(r#"{{"prompt_tokens":1,"completion_tokens":{absurd}}}"#);
        assert_eq!(Usage::read(completion.as_bytes()), None, "{absurd}");
    }
}

#[test]
fn whole_numbers_may_be_written_as_floats() {
    assert_eq!(Usage::read(br#"{"prompt_tokens":12.0,"completion_tokens":1e2}"#), usage(12, 0, 100, 0));
}

#[test]
fn contradictions_are_settled_for_the_parts() {
    assert_eq!(
        Usage::read(br#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":1000}"#),
        usage(3, 0, 4, 0)
    );
    let details = br#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":9},
        "completion_tokens_details":{"reasoning_tokens":9}}"#;
    assert_eq!(Usage::read(details), usage(3, 3, 4, 4));
    let absurd = br#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":-9},"completion_tokens_details":7}"#;
    assert_eq!(Usage::read(absurd), usage(3, 0, 4, 0));
}

#[test]
fn what_counts_no_tokens_is_no_report() {
    for other in [
        "{}",
        "null",
        "[]",
        "7",
        "",
        "{",
        r#"{"type":"duration","seconds":6}"#,
        r#"{"total_tokens":5}"#,
    ] {
        assert_eq!(Usage::read(other.as_bytes()), None, "{other}");
    }
}

proptest! {
    #[test]
    fn the_quick_reader_agrees_with_a_full_parse(text in report_text()) {
        // What no number holds is no JSON to the parser, and an absurd count to us; beside it everything else is read all the same.
        prop_assume!(!text.contains("1e400"));
        prop_assert_eq!(Usage::read(text.as_bytes()), parsed(text.as_bytes()), "{}", text);
    }

    #[test]
    fn details_never_exceed_their_whole(numbers in prop::collection::vec(any::<i64>(), 5)) {
        let text = format!(r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},
            "prompt_tokens_details":{{"cached_tokens":{}}},"completion_tokens_details":{{"reasoning_tokens":{}}}}}"#,
            numbers[0] % 1_000_000, numbers[1] % 1_000_000, numbers[2], numbers[3], numbers[4]);
        if let Some(usage) = Usage::read(text.as_bytes()) {
            prop_assert!(usage.cached <= usage.input && usage.reasoning <= usage.output);
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Usage::read(&bytes);
    }
}
