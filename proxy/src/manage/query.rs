//! The query of a request, read parameter by parameter. Unknown ones are passed over, known ones must be right and there once.

use axum::extract::Query as AxumQuery;
use http::Uri;
use uuid::Uuid;

use super::fields::invalid;
use super::problem::Problem;

/// The pairs of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        match AxumQuery::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(AxumQuery(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(Problem::bad_request("invalid_query", "The query of the address cannot be read.")),
        }
    }

    /// All values of a parameter that may be repeated.
    pub(super) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::bad_request("duplicate_parameter", format!("`{name}` may be there only once.")));
        }
        Ok(first)
    }

    pub(super) fn text(&self, name: &'static str, max: usize) -> Result<Option<&str>, Problem> {
        match self.one(name)? {
            Some(text) if text.is_empty() || text.chars().count() > max || text.contains('\0') => {
                Err(invalid(name, &format!("a text of 1 to {max} characters without NUL")))
            }
            text => Ok(text),
        }
    }

    pub(super) fn uuid(&self, name: &'static str) -> Result<Option<Uuid>, Problem> {
        let read = |text: &str| Uuid::parse_str(text).ok().filter(|_| text.len() == 36);
        self.one(name)?.map(|text| read(text).ok_or_else(|| invalid(name, "a UUID"))).transpose()
    }

    pub(super) fn number(&self, name: &'static str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
        let read = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|n| digits && (min..=max).contains(n))
        };
        self.one(name)?
            .map(|text| read(text).ok_or_else(|| invalid(name, &format!("a whole number from {min} to {max}"))))
            .transpose()
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.one(name)? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(invalid(name, "true or false")),
        }
    }

    /// A value of another form; `wanted` says which.
    pub(super) fn parsed<T>(&self, name: &'static str, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| read(text).ok_or_else(|| invalid(name, wanted))).transpose()
    }
}
