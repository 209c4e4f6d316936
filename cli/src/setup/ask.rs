//! `setup --interactive`: asks a person for what the flags would say. Keys are typed unseen.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use dialoguer::{Confirm, Input, Password};
use secrecy::{ExposeSecret, SecretString};

use super::{NewProject, Plan, token_or_new};
use crate::args::{SetupArgs, listen_text};
use crate::database::{self, Choice};
use crate::exit::Failure;

/// The plan as it is answered; what the flags and the environment say is offered.
pub(super) fn plan(args: &SetupArgs) -> Result<Plan, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::new(
            "setup --interactive needs a terminal: without one leave it out, and give --openai-key -, --management-token and the others",
        ));
    }
    let create = !args.skip_project && confirmed("Create a project and a token?")?;
    let openai_key = secret("OpenAI API key", args.openai_key.as_ref())?;
    let (management_token, made_token) = token_or_new(secret("Management token (empty: one is made)", args.management_token.as_ref())?)?;
    let db = match Choice::of(args.db.as_deref())? {
        Choice::Sqlite(path) => {
            let typed = text("SQLite database", &path.display().to_string(), |_| Ok(()))?;
            // The default stays a default, so that DATABASE_URL is not fought over.
            Some(PathBuf::from(&typed)).filter(|_| args.db.is_some() || typed != database::DEFAULT)
        }
        Choice::Postgres(_) => None,
    };
    let addr = text("Address to listen on", &args.addr, |text| listen_text(text).map(drop))?;
    let project = if create {
        let name = text("Project", &args.project, |_| Ok(()))?;
        let hours = text("Life of its token in hours", &args.duration.to_string(), |text| hours(text).map(drop))?;
        Some(NewProject {
            name: name.trim().to_owned(),
            hours: hours_of(&hours)?,
        })
    } else {
        None
    };
    Ok(Plan {
        config: args.config.clone(),
        openai_key,
        management_token,
        made_token,
        db,
        addr,
        project,
    })
}

fn hours(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(hours @ 1..=8760) => Ok(hours),
        _ => Err("expected 1 to 8760".to_owned()),
    }
}

fn hours_of(text: &str) -> Result<u32, Failure> {
    hours(text).map_err(Failure::new)
}

fn text(prompt: &str, offered: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<String, Failure> {
    Input::<String>::new()
        .with_prompt(prompt)
        .default(offered.to_owned())
        .validate_with(|text: &String| check(text))
        .interact_text()
        .map_err(unanswered)
}

/// A secret; nothing typed keeps the present one, if there is one.
fn secret(prompt: &str, present: Option<&SecretString>) -> Result<Option<SecretString>, Failure> {
    let present = present.filter(|secret| !secret.expose_secret().trim().is_empty());
    let prompt = match present {
        Some(_) => format!("{prompt} (empty: the present one)"),
        None => prompt.to_owned(),
    };
    let typed = Password::new()
        .with_prompt(prompt)
        .allow_empty_password(true)
        .interact()
        .map(SecretString::from)
        .map_err(unanswered)?;
    let typed = typed.expose_secret().trim();
    Ok(if typed.is_empty() {
        present.cloned()
    } else {
        Some(SecretString::from(typed))
    })
}

fn confirmed(prompt: &str) -> Result<bool, Failure> {
    Confirm::new().with_prompt(prompt).default(true).interact().map_err(unanswered)
}

fn unanswered(error: dialoguer::Error) -> Failure {
    Failure::new(format_args!("no answer: {error}: nothing was set up"))
}
