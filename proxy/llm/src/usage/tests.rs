//! What providers report, and what they should not.

use proptest::prelude::*;

use super::*;

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
