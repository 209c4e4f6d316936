//! On which line of a document a field stands. The YAML reader gives positions only with errors, so a walk to the field ends in one on purpose.
//! It refuses to know what is wrong with the field.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text of the error that ends a walk at its goal.
const ARRIVED: &str = "this is the field that was looked for";

/// What begins the error that ends a reading at a repeated key; the key follows, up to a zero.
const REPEATED: &str = "this key stands here again: ";

/// One step of a path such as `spec.providers[0].name`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The line, counted from 1, on which the key or item of `path` stands in a document's text; of its nearest ancestor that is there, if it is not.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let steps = steps(path);
    (1..=steps.len()).rev().find_map(|depth| walk(text, &steps[..depth]))
}

/// Keys that hold a dot themselves come apart; their ancestor is found all the same.
fn steps(path: &str) -> Vec<Step> {
    let mut found = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let mut rest = part.split('[');
        found.extend(rest.next().filter(|key| !key.is_empty()).map(|key| Step::Key(key.to_owned())));
        found.extend(rest.filter_map(|index| index.strip_suffix(']')?.parse().ok()).map(Step::Index));
    }
    found
}

/// The part of a document that may be JSON, at the same lines. Flow mappings of YAML begin in the same way.
pub(super) fn as_json(text: &str) -> Option<&str> {
    let text = text.strip_prefix("---").unwrap_or(text);
    text.trim_start().starts_with('{').then_some(text)
}

fn walk(text: &str, steps: &[Step]) -> Option<usize> {
    stop(text, || Walk(steps), ARRIVED).map(|(line, _)| line)
}

/// The first key that stands a second time in its mapping: its line, counted from 1 in the document's text, and the key.
pub(super) fn line_of_repeated_key(text: &str) -> Option<(usize, String)> {
    stop(text, || Unique, REPEATED).map(|(line, message)| {
        let key = message.split_once(REPEATED).map_or("", |(_, key)| key);
        (line, key.split('\u{0}').next().unwrap_or_default().to_owned())
    })
}

/// Where a reader ended with this text in its error, and the error.
fn stop<'t, S: DeserializeSeed<'t>>(text: &'t str, reader: impl Fn() -> S, goal: &str) -> Option<(usize, String)> {
    if let Some(json) = as_json(text) {
        let mut json = serde_json::Deserializer::from_str(json);
        match reader().deserialize(&mut json) {
            Ok(_) => return None,
            Err(error) if error.to_string().contains(goal) => return Some((error.line(), error.to_string())),
            Err(_) => {}
        }
    }
    let error = reader().deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let message = error.to_string();
    let line = error.location()?.line();
    message.contains(goal).then_some((line, message))
}

/// Walks to a node and fails there; succeeds if there is no such node.
struct Walk<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Nodes that the walk does not lead through end it.
macro_rules! ends_here {
    ($($visit:ident($value:ty)),+ $(,)?) => {$(
        fn $visit<E: Error>(self, _: $value) -> Result<(), E> {
            self.end()
        }
    )+};
}

impl Walk<'_> {
    fn end<E: Error>(self) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom(ARRIVED)) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any node")
    }

    ends_here!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.0.split_first() else {
            return self.end();
        };
        while let Some(found) = map.next_key_seed(Key {
            wanted,
            is_last: rest.is_empty(),
        })? {
            if found {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.0.split_first() else {
            return self.end();
        };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        items.next_element_seed(Walk(rest))?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Compares a key; fails on it if it is the one and nothing follows in the path.
struct Key<'p> {
    wanted: &'p str,
    is_last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.is_last => Err(E::custom(ARRIVED)),
            found => Ok(found),
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// Reads everything and keeps nothing; fails on a key that its mapping has already.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Nodes that hold no others.
macro_rules! leaf {
    ($($visit:ident($value:ty)),+ $(,)?) => {$(
        fn $visit<E: Error>(self, _: $value) -> Result<(), E> {
            Ok(())
        }
    )+};
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any node")
    }

    leaf!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(Self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }
}

/// Notes a key; fails on it if it was noted before. Keys that are no strings are none of ours.
struct NewKey<'s>(&'s mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) {
            Ok(())
        } else {
            Err(E::custom(format_args!("{REPEATED}{key}\u{0}")))
        }
    }

    leaf!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "

kind: X
metadata:
  labels:
    a.b/c: d
spec:
  # about them
  providers:
    - name: one
      api: Echo
    -
      name: two
  limits: {max: 3,
    min: 1}
";

    #[test]
    fn a_field_is_found_on_the_line_of_its_key() {
        for (path, line) in [
            ("kind", 3),
            ("spec", 7),
            ("spec.providers", 9),
            ("spec.providers[0]", 10),
            ("spec.providers[0].api", 11),
            ("spec.providers[1].name", 13),
            ("spec.limits.min", 15),
        ] {
            assert_eq!(line_of(TEXT, path), Some(line), "{path}");
        }
    }

    #[test]
    fn a_field_that_is_missing_is_found_at_its_nearest_ancestor() {
        assert_eq!(line_of(TEXT, "spec.database.sqlite"), Some(7));
        assert_eq!(line_of(TEXT, "spec.providers[7].name"), Some(9));
        assert_eq!(line_of(TEXT, "metadata.labels.a.b/c"), Some(5));
        assert_eq!(line_of(TEXT, "status"), None);
        assert_eq!(line_of("[1, 2]", "spec"), None);
    }
}
