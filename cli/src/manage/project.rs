//! `llm-proxy manage project …`.

use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::output::{Column, Shape, print, rows};
use super::{one, secret};
use crate::args::{OutputFormat, ProjectCommand, ProjectCreateArgs, ProjectUpdateArgs, ProviderKeyArgs};
use crate::client::{ClientError, printable, segment};
use crate::exit::Failure;

const COLUMNS: [Column; 7] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("PROVIDER", "provider"),
    ("API KEY", "api_key"),
    ("ACTIVE", "is_active"),
    ("CREATED", "created_at"),
    ("UPDATED", "updated_at"),
];

/// Runs one; the text to print.
pub(super) async fn run(api: &Api, command: &ProjectCommand, format: OutputFormat) -> Result<String, Failure> {
    let show = |document: &str| one(format, document, |documents| rows(&COLUMNS, documents));
    match command {
        ProjectCommand::List => {
            let documents = api.list("/manage/projects", &[], "cannot list projects").await?;
            print(format, &documents, Shape::List, |documents| rows(&COLUMNS, documents))
        }
        ProjectCommand::Get(project) => {
            let act = format!("cannot show project {}", printable(&project.id));
            show(api.call(Method::GET, &path(&project.id), None, &act).await?.text())
        }
        ProjectCommand::Create(args) => show(&create(api, args).await?),
        ProjectCommand::Update(args) => show(&patch(api, &args.project.id, &changes(args)?, "update").await?),
        ProjectCommand::Delete(project) => delete(api, &project.id, format).await,
        ProjectCommand::Activate(project) => show(&patch(api, &project.id, &json!({"is_active": true}), "activate").await?),
        ProjectCommand::Deactivate(args) => {
            let mut body = json!({"is_active": false});
            if args.revoke_tokens {
                body["revoke_tokens"] = Value::Bool(true);
            }
            show(&patch(api, &args.project.id, &body, "deactivate").await?)
        }
    }
}

async fn create(api: &Api, args: &ProjectCreateArgs) -> Result<String, Failure> {
    let key = provider_key(&args.key)?
        .ok_or_else(|| Failure::new("no provider key: give --openai-key-stdin and the key on standard input, or --openai-key KEY"))?;
    let body = json!({"name": args.name, "api_key": key});
    let act = format!("cannot create project {}", printable(&args.name));
    let answer = api.call(Method::POST, "/manage/projects", Some(&body), &act).await?;
    Ok(answer.text().to_owned())
}

fn changes(args: &ProjectUpdateArgs) -> Result<Value, Failure> {
    let mut body = Map::new();
    if let Some(name) = &args.name {
        body.insert("name".to_owned(), json!(name));
    }
    if let Some(key) = provider_key(&args.key)? {
        body.insert("api_key".to_owned(), json!(key));
    }
    if body.is_empty() {
        return Err(Failure::new("nothing to update: give --name, --openai-key or --openai-key-stdin"));
    }
    Ok(Value::Object(body))
}

async fn patch(api: &Api, id: &str, body: &Value, verb: &str) -> Result<String, Failure> {
    let act = format!("cannot {verb} project {}", printable(id));
    let answer = api.call(Method::PATCH, &path(id), Some(body), &act).await?;
    Ok(answer.text().to_owned())
}

/// The API answers 405: then the line says what to do instead.
async fn delete(api: &Api, id: &str, format: OutputFormat) -> Result<String, Failure> {
    let act = format!("cannot delete project {}", printable(id));
    match api.try_call(Method::DELETE, &path(id), None).await {
        Ok(answer) if format == OutputFormat::Json => Ok(super::output::indented(answer.text())),
        Ok(_) => Ok(format!("project {} deleted\n", printable(id))),
        Err(ClientError::Refused { status, message, .. }) if status == StatusCode::METHOD_NOT_ALLOWED => {
            let id = printable(id);
            Err(Failure::new(format_args!(
                "{act}: HTTP 405: {message}: projects are kept for their usage and audit; deactivate it instead: \
                 llm-proxy manage project deactivate {id} (--revoke-tokens ends its tokens as well)"
            )))
        }
        Err(error) => Err(api.failed(&error, &act)),
    }
}

/// The key that was given, if any.
fn provider_key(args: &ProviderKeyArgs) -> Result<Option<String>, Failure> {
    const WHAT: &str = "the provider key";
    let key = match &args.openai_key {
        Some(given) => secret(given, WHAT)?,
        None if args.openai_key_stdin => secret(&"-".into(), WHAT)?,
        None => return Ok(None),
    };
    Ok(Some(key.expose_secret().to_owned()))
}

fn path(id: &str) -> String {
    format!("/manage/projects/{}", segment(id))
}
