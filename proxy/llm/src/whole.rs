//! Finds the `usage` of a JSON answer that is at hand whole. Nearly all have it near their end, so that most bytes need not be looked at.
//! It refuses to guess: where it cannot be sure it says so, and the answer is read from its beginning.

use std::sync::LazyLock;

use memchr::memmem;

use crate::Usage;
use crate::finder::CAPTURE_BYTES;
use crate::scan::Cursor;

static NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"usage\""));

/// The usage at the top of an answer that is one JSON object; `None` if that cannot be told without reading all of it.
///
/// In JSON these bytes, with a brace or comma before them and a colon behind, are a name and cannot lie inside a string, where quotes are escaped.
/// The name stands at the top if nothing but members and one closing brace follow its value.
pub(crate) fn usage(answer: &[u8]) -> Option<Usage> {
    let answer = answer.trim_ascii();
    if answer.first() != Some(&b'{') {
        return None;
    }
    let last = NAME.find_iter(answer).last()?;
    if !matches!(answer.get(..last)?.trim_ascii_end().last(), Some(b'{' | b',')) {
        return None;
    }
    let mut cursor = Cursor::new(str::from_utf8(answer.get(last + NAME.needle().len()..)?).ok()?);
    if cursor.next_token() != Some(b':') {
        return None;
    }
    cursor.step();
    cursor.next_token();
    let start = cursor.offset();
    let usage = Usage::read_at(&mut cursor).ok()??;
    if cursor.offset() - start > CAPTURE_BYTES {
        return None;
    }
    while cursor.next_token() == Some(b',') {
        cursor.step();
        cursor.next_token();
        cursor.member().ok()?;
    }
    (cursor.next_token() == Some(b'}')).then(|| cursor.step())?;
    cursor.next_token().is_none().then_some(usage)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::finder::Finder;

    const REPORT: &str = r#"{"prompt_tokens":3,"completion_tokens":4}"#;

    fn found(answer: &str) -> bool {
        let usage = usage(answer.as_bytes());
        assert!(usage.is_none_or(|usage| (usage.input, usage.output) == (3, 4)), "{answer}");
        usage.is_some()
    }

    #[test]
    fn usage_at_the_top_is_found_wherever_it_stands() {
        for answer in [
            format!(r#"{{"usage":{REPORT}}}"#),
            format!(" {{ \"id\" : 1 , \"usage\" : {REPORT} , \"x\" : [ {{ }} , \"}}\" ] }}\r\n"),
            format!(r#"{{"choices":[{{"message":{{"content":"\"usage\":{{}}"}}}}],"usage":{REPORT},"x":null}}"#),
        ] {
            assert!(found(&answer), "{answer}");
        }
    }

    #[test]
    fn what_is_not_surely_at_the_top_is_left_to_who_reads_everything() {
        for answer in [
            format!(r#"{{"choices":[{{"usage":{REPORT}}}]}}"#),
            format!(r#"{{"usage":{REPORT},"choices":[{{"usage":{REPORT}}}]}}"#),
            format!(r#"{{"usage":{REPORT}"#),
            format!(r#"[{{"usage":{REPORT}}}]"#),
            format!(r#"{{"usage":{REPORT}}}}}"#),
            format!(r#"{{"a":"usage","b":{REPORT}}}"#),
            r#"{"usage":null}"#.to_owned(),
            "<html>".to_owned(),
            String::new(),
        ] {
            assert!(!found(&answer), "{answer}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let report = (0..5u64, 0..5u64).prop_map(|(input, output)| json!({"prompt_tokens": input, "completion_tokens": output}));
        let text = prop::sample::select(vec!["usage", "\"usage\":", "\\\"usage", ",\"usage\":{\"prompt_tokens\":1}", "}", ""]);
        let leaf = prop_oneof![report, text.prop_map(Value::from), Just(Value::Null), Just(json!(7))];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let name = prop::sample::select(vec!["usage", "a", "usage\"", "\"usage", "x\\\"usage"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..4)
                    .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_a_reading_of_everything_finds(value in json_value(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            if let Some(usage) = usage(text.as_bytes()) {
                prop_assert_eq!(Some(usage), Finder::find(&["usage"], text.as_bytes()), "{}", text);
            }
        }
    }
}
