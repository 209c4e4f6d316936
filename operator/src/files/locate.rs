//! On which line of a document a field stands. The YAML reader gives positions only with errors, so a walk to the field ends in one on purpose.
//! It refuses to know what is wrong with the field.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text of the error that ends a walk at its goal.
const ARRIVED: &str = "this is the field that was looked for";

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

fn walk(text: &str, steps: &[Step]) -> Option<usize> {
    let stopped = Walk(steps).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let arrived = stopped.to_string().contains(ARRIVED);
    stopped.location().filter(|_| arrived).map(|location| location.line())
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
