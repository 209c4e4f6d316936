//! Brings the database of the coming server up, under that server's own claim, and creates the first project and its token in it.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Map;
use store::{Act, Fleet, HolderId, ManageError, NewProject, NewToken, ProjectId, SchemaInfo, StoredAnswer, TokenValue};

use super::Plan;
use crate::database::Choice;
use crate::exit::{Failure, Kind};
use crate::server::database::{Database, OPENAI};
use crate::serving::NoContact;

const HOUR_MS: i64 = 3_600_000;

/// What stands now.
pub(super) struct Made {
    /// The schema's version.
    pub(super) version: i64,
    /// What was created, if anything was to be.
    pub(super) created: Option<Created>,
}

/// A project with a token.
pub(super) struct Created {
    pub(super) project_name: String,
    pub(super) project_id: ProjectId,
    /// In clear, for the only time.
    pub(super) token: SecretString,
    /// RFC 3339.
    pub(super) expires_at: String,
}

/// Opens (a SQLite file is locked meanwhile), migrates, claims; then `write`s the configuration, and creates. So a database that cannot be
/// used, be it because a server runs on it, changes no configuration.
pub(super) async fn set_up(plan: &Plan, choice: &Choice, write: impl FnOnce() -> Result<(), Failure>) -> Result<Made, Failure> {
    let database = Database::of(plan.db.as_deref())?;
    let writer = HolderId::new();
    let contact = database.open(writer).await.map_err(|failed| match failed {
        NoContact::Yet(_, error) => {
            let kind = if matches!(choice, Choice::Postgres(_)) {
                Kind::Network
            } else {
                Kind::Other
            };
            Failure::of(kind, format_args!("{choice}: {error}"))
        }
        NoContact::Ever(failure) => failure,
    })?;
    let written = match &plan.project {
        Some(project) => must_be_free(&contact.fleet, &project.name).await.and_then(|()| write()),
        None => write(),
    };
    let created = match (written, &plan.project) {
        (Err(failure), _) => Err(failure),
        (Ok(()), None) => Ok(None),
        (Ok(()), Some(project)) => create(&contact.fleet, writer, plan, &project.name, project.hours).await.map(Some),
    };
    contact.store.close().await;
    Ok(Made {
        version: SchemaInfo::NEWEST,
        created: created?,
    })
}

/// Whether the name can be given, asked before anything is written: what stands in the configuration stays if it cannot.
async fn must_be_free(fleet: &Fleet, name: &str) -> Result<(), Failure> {
    match fleet.is_project_name_taken(name).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(failed(name, &ManageError::NameTaken)),
        Err(error) => Err(Failure::new(format_args!("project {name}: {error}"))),
    }
}

async fn create(fleet: &Fleet, writer: HolderId, plan: &Plan, name: &str, hours: u32) -> Result<Created, Failure> {
    let project = NewProject {
        name: name.to_owned(),
        provider: Some(OPENAI.to_owned()),
        key: plan.openai_key.clone(),
    };
    let kept = |body: String, status| StoredAnswer {
        status,
        version: None,
        body: body.into(),
        replayed: false,
    };
    let creates = act(writer, "project.create");
    let created = fleet.create_project(&creates, &project, |project| kept(project.id.to_string(), 201));
    let id = created.await.map_err(|error| failed(name, &error))?;
    let project_id: ProjectId = id
        .body
        .expose_secret()
        .parse()
        .map_err(|error| Failure::new(format_args!("project {name}: {error}")))?;
    let token = NewToken {
        project: project_id,
        name: None,
        ttl_ms: i64::from(hours) * HOUR_MS,
        max_requests: None,
        value: TokenValue::mint(),
    };
    let issues = act(writer, "token.create");
    let issued = fleet.create_token(&issues, &token, |token| {
        let ends = token.expires_at.and_then(|ends| jiff::Timestamp::from_millisecond(ends.0).ok());
        kept(ends.map(|ends| ends.to_string()).unwrap_or_default(), 200)
    });
    let issued = issued.await.map_err(|error| failed(name, &error))?;
    Ok(Created {
        project_name: name.to_owned(),
        project_id,
        token: SecretString::from(token.value.expose()),
        expires_at: issued.body.expose_secret().to_owned(),
    })
}

/// What the audit says of it.
fn act(writer: HolderId, action: &'static str) -> Act {
    Act {
        writer,
        action,
        actor: "setup".to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
        detail: Map::new(),
        if_version: None,
        idempotency: None,
    }
}

fn failed(name: &str, error: &ManageError) -> Failure {
    match error {
        ManageError::NameTaken => Failure::new(format_args!(
            "project {name}: there is one of this name already: name another with --project, or say --skip-project"
        )),
        error => Failure::new(format_args!("project {name}: {error}")),
    }
}
