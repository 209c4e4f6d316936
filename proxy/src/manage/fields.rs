//! The fields of a JSON body, read one by one, so that a refusal names the field and never repeats its value.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::problem::Problem;

/// A JSON object.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Problem::bad_request("invalid_json", "The body must be a JSON object.")),
            Err(error) => Err(Problem::bad_request(
                "invalid_json",
                format!("The body is no JSON: line {}, column {}.", error.line(), error.column()),
            )),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text of 1 to `max` characters that `rule` accepts; `form` says what that is.
    pub(super) fn text(&self, name: &'static str, max: usize, form: &str, rule: fn(&str) -> bool) -> Result<Option<&str>, Problem> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.chars().count() <= max && rule(text) => Ok(Some(text)),
            Some(_) => Err(invalid(name, &format!("a string of 1 to {max} characters, {form}"))),
        }
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(invalid(name, "true or false")),
        }
    }

    /// A whole number within `min..=max`; 5.0 is one, too.
    pub(super) fn number(&self, name: &'static str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let whole = value.as_u64().or_else(|| {
            let float = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=api::MAX_COUNT as f64).contains(n))?;
            Some(float as u64)
        });
        match whole.filter(|n| (min..=max).contains(n)) {
            Some(number) => Ok(Some(number)),
            None => Err(invalid(name, &format!("a whole number from {min} to {max}"))),
        }
    }

    /// As [`Fields::number`], where null says that there is none: answers say it so, and clients send back what they were answered.
    pub(super) fn number_or_null(&self, name: &'static str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        match self.0.get(name) {
            Some(Value::Null) => Ok(None),
            _ => self.number(name, min, max),
        }
    }

    pub(super) fn uuid(&self, name: &'static str) -> Result<Option<Uuid>, Problem> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        match value.as_str().filter(|text| text.len() == 36).and_then(|text| Uuid::parse_str(text).ok()) {
            Some(uuid) => Ok(Some(uuid)),
            None => Err(invalid(name, "a UUID")),
        }
    }
}

/// The field must be there.
pub(super) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::bad_request("missing_field", format!("`{name}` is required.")))
}

/// A field that is there but is not what it must be.
pub(super) fn invalid(name: &str, wanted: &str) -> Problem {
    Problem::bad_request("invalid_field", format!("`{name}` must be {wanted}."))
}

/// Names for people: no control characters, no white space at the ends.
pub(super) fn is_name(text: &str) -> bool {
    let control = |c: char| c.is_ascii_control() || ('\u{80}'..='\u{9f}').contains(&c);
    !text.chars().any(control) && !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace)
}

/// Names of providers: as Kubernetes names them.
pub(super) fn is_provider(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| inner(b) || b == b'-') && text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner)
}

/// Keys: visible ASCII, and not one that was masked.
pub(super) fn is_key(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() && b != b'*') && !text.contains("...") && !text.starts_with('.') && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(problem: Problem) -> String {
        format!("{problem:?}")
    }

    #[test]
    fn a_refusal_names_the_field_and_never_its_value() {
        let fields = Fields::parse(br#"{"name":"secret\u0000","n":"secret","f":"secret","u":"secret","k":5}"#).unwrap();
        for problem in [
            fields.text("name", 10, "x", is_name).unwrap_err(),
            fields.number("n", 0, 5).unwrap_err(),
            fields.flag("f").unwrap_err(),
            fields.uuid("u").unwrap_err(),
            fields.text("k", 10, "x", is_key).unwrap_err(),
        ] {
            let text = message(problem);
            assert!(!text.contains("secret") && text.contains("must be"), "{text}");
        }
        let problem = Fields::parse(b"{\"secret\":secret}").err().unwrap();
        assert!(!message(problem).contains("secret"));
    }

    #[test]
    fn whole_numbers_may_be_written_as_floats_and_must_lie_within_bounds() {
        let fields = Fields::parse(br#"{"a":5.0,"b":5.5,"c":-1,"d":9007199254740991,"e":1e300,"f":null,"g":true}"#).unwrap();
        assert_eq!(fields.number("a", 0, 10).unwrap(), Some(5));
        assert_eq!(fields.number("d", 0, api::MAX_COUNT).unwrap(), Some(api::MAX_COUNT));
        assert_eq!(fields.number("z", 0, 10).unwrap(), None);
        for name in ["b", "c", "e", "f", "g"] {
            assert!(fields.number(name, 0, api::MAX_COUNT).is_err(), "{name}");
        }
        assert!(fields.number("a", 6, 10).is_err());
        assert_eq!(fields.number_or_null("f", 0, 10).unwrap(), None);
        assert!(fields.number_or_null("g", 0, 10).is_err());
    }

    #[test]
    fn names_keys_and_providers_are_told_from_what_is_none() {
        assert!(is_name("My Project") && is_name("ü") && !is_name(" a") && !is_name("a\n") && !is_name("a\u{85}b"));
        assert!(is_key("sk-a.b..c") && !is_key("sk-12345...6789") && !is_key("sk-****") && !is_key("a b") && !is_key("ü") && !is_key(".a"));
        assert!(is_provider("open-ai2") && !is_provider("-a") && !is_provider("A") && !is_provider("a-"));
    }
}
