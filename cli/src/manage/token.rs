//! `llm-proxy manage token …`. A token is named by its id or by its value; the value is never repeated.

use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::output::{Column, Shape, indented, lines, print, rows};
use super::{one, secret};
use crate::args::{OutputFormat, TokenCommand, TokenGenerateArgs, TokenListArgs, TokenName, TokenUpdateArgs};
use crate::client::{printable, segment};
use crate::exit::Failure;

const COLUMNS: [Column; 9] = [
    ("ID", "id"),
    ("TOKEN", "token"),
    ("NAME", "name"),
    ("PROJECT", "project_id"),
    ("ACTIVE", "is_active"),
    ("EXPIRES", "expires_at"),
    ("REQUESTS", "request_count"),
    ("LIMIT", "max_requests"),
    ("LAST USED", "last_used_at"),
];
const ISSUED: [Column; 4] = [
    ("Token", "token"),
    ("ID", "id"),
    ("Expires at", "expires_at"),
    ("Max requests", "max_requests"),
];
const REVOKED: [Column; 4] = [
    ("Revoked", "revoked_count"),
    ("Already revoked", "already_revoked_count"),
    ("Failed", "failed_count"),
    ("Tokens", "total_tokens"),
];

/// Runs one; the text to print.
pub(super) async fn run(api: &Api, command: &TokenCommand, format: OutputFormat) -> Result<String, Failure> {
    let show = |document: &str| one(format, document, |documents| rows(&COLUMNS, documents));
    match command {
        TokenCommand::Generate(args) => generate(api, args, format).await,
        TokenCommand::List(args) => list(api, args, format).await,
        TokenCommand::Get(token) => {
            let named = Named::of(token)?;
            let act = format!("cannot show token {}", named.shown);
            show(api.call(Method::GET, &named.path, None, &act).await?.text())
        }
        TokenCommand::Update(args) => {
            let named = Named::of(&args.token)?;
            let act = format!("cannot update token {}", named.shown);
            show(api.call(Method::PATCH, &named.path, Some(&changes(args)), &act).await?.text())
        }
        TokenCommand::Revoke(token) => {
            let named = Named::of(token)?;
            let act = format!("cannot revoke token {}", named.shown);
            let answer = api.call(Method::DELETE, &named.path, None, &act).await?;
            Ok(match format {
                OutputFormat::Json => indented(answer.text()),
                OutputFormat::Table => format!("token {} revoked\n", named.shown),
            })
        }
        TokenCommand::RevokeAll(args) => {
            let path = format!("/manage/projects/{}/tokens/revoke", segment(&args.project_id));
            let act = format!("cannot revoke the tokens of project {}", printable(&args.project_id));
            let answer = api.call(Method::POST, &path, None, &act).await?;
            one(format, answer.text(), |documents| all_lines(&REVOKED, documents))
        }
    }
}

async fn generate(api: &Api, args: &TokenGenerateArgs, format: OutputFormat) -> Result<String, Failure> {
    let minutes = args.duration_minutes.unwrap_or(args.duration * 60);
    let mut body = json!({"project_id": args.project_id, "duration_minutes": minutes});
    if args.max_requests > 0 {
        body["max_requests"] = json!(args.max_requests);
    }
    if let Some(name) = &args.name {
        body["name"] = json!(name);
    }
    let act = format!("cannot generate a token for project {}", printable(&args.project_id));
    let answer = api.call(Method::POST, "/manage/tokens", Some(&body), &act).await?;
    one(format, answer.text(), |documents| {
        all_lines(&ISSUED, documents) + "Keep the token now: it is not shown again.\n"
    })
}

async fn list(api: &Api, args: &TokenListArgs, format: OutputFormat) -> Result<String, Failure> {
    let mut query = Vec::new();
    if let Some(project) = &args.project_id {
        query.push(("project_id", project.clone()));
    }
    if args.active_only {
        query.push(("active_only", "true".to_owned()));
    }
    let documents = api.list("/manage/tokens", &query, "cannot list tokens").await?;
    print(format, &documents, Shape::List, |documents| rows(&COLUMNS, documents))
}

fn changes(args: &TokenUpdateArgs) -> Value {
    let mut body = Map::new();
    if let Some(max) = args.max_requests {
        body.insert("max_requests".to_owned(), json!(max));
    }
    if args.activate || args.deactivate {
        body.insert("is_active".to_owned(), json!(args.activate));
    }
    if let Some(minutes) = args.duration_minutes.or(args.duration.map(|hours| hours * 60)) {
        body.insert("duration_minutes".to_owned(), json!(minutes));
    }
    if let Some(name) = &args.name {
        body.insert("name".to_owned(), json!(name));
    }
    Value::Object(body)
}

fn all_lines(fields: &[Column], documents: &[Value]) -> String {
    documents.iter().map(|document| lines(fields, document)).collect()
}

/// A token as the API is asked for it, and as it is shown.
struct Named {
    path: String,
    shown: String,
}

impl Named {
    fn of(token: &TokenName) -> Result<Self, Failure> {
        let token = secret(&token.token, "the token's id or value")?;
        let token = token.expose_secret();
        Ok(Self {
            path: format!("/manage/tokens/{}", segment(token)),
            shown: shown(token),
        })
    }
}

/// An id as it is; of a value the beginning, which names it without giving it away.
fn shown(token: &str) -> String {
    if uuid::Uuid::parse_str(token).is_ok() {
        return token.to_owned();
    }
    let public = if token.starts_with("sk-lp-") { "sk-lp-".len() + 8 } else { 3 };
    let begin: String = token.chars().take(public).collect();
    if begin.len() == token.len() {
        return "****".to_owned();
    }
    printable(&format!("{begin}****"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_by_its_public_beginning_only() {
        assert_eq!(shown("123e4567-e89b-12d3-a456-426614174000"), "123e4567-e89b-12d3-a456-426614174000");
        assert_eq!(shown("sk-lp-AAAAAAAA-00000000000000000000000000000000ZZZZZZ"), "sk-lp-AAAAAAAA****");
        assert_eq!(shown("sk-ABC123DEF456GHI789"), "sk-****");
        assert_eq!(shown("abc"), "****");
    }
}
