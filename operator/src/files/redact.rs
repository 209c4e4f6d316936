//! What the reader of typed values says, without the value: a key pasted into the wrong field must not end up in a log.
//! It refuses to know which field it speaks about.

use serde_json::Value;

/// A field, relative to where the reader stood, and what is wrong with it.
pub(super) struct Complaint {
    /// The field below that is missing, if that is what is wrong.
    pub(super) below: Option<String>,
    /// What is wrong.
    pub(super) message: String,
}

/// Rewrites an error of the typed reader. `value` is what stood at its place; of it only the type is told.
pub(super) fn complaint(error: &str, value: Option<&Value>) -> Complaint {
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if error.starts_with("missing field") {
        return Complaint {
            below: quoted(error),
            message: "is required".to_owned(),
        };
    }
    if error.starts_with("unknown variant")
        && let Some((_, words)) = error.split_once(", expected ")
    {
        let words: Vec<&str> = words.split('`').skip(1).step_by(2).collect();
        return Complaint {
            below: None,
            message: format!("must be one of {}", words.join(", ")),
        };
    }
    let Some((_, expected)) = error.rsplit_once(", expected ") else {
        return Complaint {
            below: None,
            message: "cannot be read".to_owned(),
        };
    };
    let expected = match expected {
        "a string" | "string" => "a string",
        "a boolean" => "true or false",
        "a map" => "a mapping",
        "i64" | "i32" | "u64" | "u32" => "a whole number",
        other if other.starts_with("struct ") => "a mapping",
        other if other.contains("sequence") => "a list",
        _ => "of another type",
    };
    let hint = match (expected, value) {
        ("a string", Some(Value::Number(_) | Value::Bool(_))) => "; put it in quotes",
        ("a whole number", Some(Value::Number(_))) => "; write it with digits alone, without point or exponent",
        ("a whole number", Some(Value::String(_))) => "; write it without quotes",
        _ => "",
    };
    let found = value.map_or_else(String::new, |value| format!(", not {}", type_of(value)));
    Complaint {
        below: None,
        message: format!("must be {expected}{found}{hint}"),
    }
}

/// What a value is, in words.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_value_gets_into_a_message() {
        let key = "sk-canary";
        let secret = json!(key);
        for error in [
            format!("invalid type: string \"{key}\", expected struct ProviderCredentials"),
            format!("unknown variant `{key}`, expected `Active` or `Inactive`"),
            format!("invalid value: string \"{key}, expected more\", expected a string"),
            format!("premature end of input at {key}"),
        ] {
            assert!(!complaint(&error, Some(&secret)).message.contains(key), "{error}");
        }
    }

    #[test]
    fn a_complaint_says_what_is_wanted() {
        let said = |error: &str, value: Value| complaint(error, Some(&value)).message;
        assert_eq!(
            said("invalid type: integer `90`, expected a string", json!(90)),
            "must be a string, not a number; put it in quotes"
        );
        assert_eq!(
            said("invalid type: string \"x\", expected i64", json!("x")),
            "must be a whole number, not a string; write it without quotes"
        );
        assert_eq!(
            said("invalid type: floating point `1000.0`, expected i64", json!(1e3)),
            "must be a whole number, not a number; write it with digits alone, without point or exponent"
        );
        assert_eq!(said("unknown variant `x`, expected one of `A`, `B`", json!("x")), "must be one of A, B");
        let missing = complaint("missing field `projectRef`", None);
        assert_eq!((missing.below.as_deref(), missing.message.as_str()), (Some("projectRef"), "is required"));
    }
}
