//! `llm-proxy setup`: writes the configuration file, brings the database up, and creates a first project with its token.
//! It refuses to know how any of these is stored.

mod ask;
mod file;
mod lines;
mod project;

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::args::SetupArgs;
use crate::console;
use crate::database::Choice;
use crate::dotenv::{self, variable};
use crate::exit::{Failure, Outcome};
use crate::serving;

/// What is to be set up.
struct Plan {
    config: PathBuf,
    openai_key: Option<SecretString>,
    management_token: SecretString,
    /// Whether the token was made here, so that nobody knows it yet.
    made_token: bool,
    /// As it goes into the file.
    db: Option<PathBuf>,
    addr: String,
    project: Option<NewProject>,
}

/// The project that is to be created.
struct NewProject {
    name: String,
    hours: u32,
}

/// Sets everything up, in an order in which it can be run again after a failure at any point.
pub(crate) fn run(args: &SetupArgs) -> Result<Outcome, Failure> {
    let plan = if args.interactive { ask::plan(args)? } else { plan(args)? };
    check(&plan)?;
    let choice = Choice::of(plan.db.as_deref())?;
    if let (Some(_), Some(_)) = (&plan.db, variable("DATABASE_URL")) {
        return Err(Failure::new(
            "DATABASE_URL is set, in the environment or in the configuration file, and the server would go by it: take it away, or leave out --db",
        ));
    }
    let runtime = serving::runtime()?;
    let made = runtime.block_on(project::set_up(&plan, &choice, || write(&plan, &choice)));
    runtime.shutdown_timeout(serving::LEFTOVERS);
    console::print(&report(&plan, &choice, &made?))?;
    Ok(Outcome::Ok)
}

fn plan(args: &SetupArgs) -> Result<Plan, Failure> {
    let given = |secret: &Option<SecretString>| secret.clone().filter(|secret| !secret.expose_secret().trim().is_empty());
    let openai_key = match given(&args.openai_key) {
        Some(key) if key.expose_secret() == "-" => Some(console::read_secret("the OpenAI key")?),
        other => other,
    };
    let (management_token, made_token) = token_or_new(given(&args.management_token))?;
    Ok(Plan {
        config: args.config.clone(),
        openai_key,
        management_token,
        made_token,
        db: args.db.clone(),
        addr: args.addr.clone(),
        project: (!args.skip_project).then(|| NewProject {
            name: args.project.trim().to_owned(),
            hours: args.duration,
        }),
    })
}

/// The token that was given, or a fresh one: 256 random bits in hexadecimal digits.
fn token_or_new(given: Option<SecretString>) -> Result<(SecretString, bool), Failure> {
    if let Some(token) = given {
        return Ok((token, false));
    }
    let mut random = Zeroizing::new([0u8; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(|error| Failure::new(format_args!("cannot make a management token: {error}")))?;
    let mut text = String::with_capacity(64);
    for byte in random.iter() {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    Ok((SecretString::from(text), true))
}

/// What would only fail later, or be found out by nobody.
fn check(plan: &Plan) -> Result<(), Failure> {
    let visible = |secret: &SecretString| secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic());
    if !visible(&plan.management_token) {
        return Err(Failure::new("the management token holds white space or characters that no token has"));
    }
    let Some(key) = &plan.openai_key else {
        if plan.project.is_some() {
            return Err(Failure::new(
                "no OpenAI key: give --openai-key - and the key on standard input, set OPENAI_API_KEY, or say --skip-project",
            ));
        }
        return Ok(());
    };
    let text = key.expose_secret();
    if !visible(key) {
        return Err(Failure::new("the OpenAI key holds white space or characters that no key has"));
    }
    if text.starts_with("sk-lp-") {
        return Err(Failure::new(
            "the OpenAI key is a token of a proxy: give the provider's own key (is OPENAI_API_KEY set for an application?)",
        ));
    }
    if text.contains('*') || text.contains("...") {
        return Err(Failure::new("the OpenAI key is masked: give the whole key"));
    }
    match &plan.project {
        Some(project) if project.name.chars().any(char::is_control) => Err(Failure::new("the project's name holds control characters")),
        Some(project) if project.name.chars().count() > api::MAX_NAME => Err(Failure::new(format_args!(
            "the project's name is longer than {} characters",
            api::MAX_NAME
        ))),
        _ => Ok(()),
    }
}

/// Writes the configuration file (0600), all of it or nothing.
fn write(plan: &Plan, choice: &Choice) -> Result<(), Failure> {
    let mut values: Vec<(&str, &str)> = Vec::new();
    if let Some(key) = &plan.openai_key {
        values.push(("OPENAI_API_KEY", key.expose_secret()));
    }
    values.push(("MANAGEMENT_TOKEN", plan.management_token.expose_secret()));
    match choice {
        Choice::Sqlite(path) => {
            let path = path
                .to_str()
                .filter(|path| !path.chars().any(char::is_control))
                .ok_or_else(|| Failure::new("the database's path is no printable text: give --db another one"))?;
            values.push(("DATABASE_PATH", path));
        }
        Choice::Postgres(url) => values.push(("DATABASE_URL", url.expose_secret())),
    }
    // Without it the server could not open what is sealed with it now.
    let encryption_key = variable("ENCRYPTION_KEY");
    if let Some(key) = &encryption_key {
        values.push(("ENCRYPTION_KEY", key.expose_secret()));
    }
    values.push(("LISTEN_ADDR", &plan.addr));
    let level = variable("LOG_LEVEL").unwrap_or_else(|| SecretString::from("info"));
    values.push(("LOG_LEVEL", level.expose_secret()));
    // A link stays one, and what it points to is replaced.
    let path = plan.config.canonicalize().unwrap_or_else(|_| plan.config.clone());
    let before = dotenv::read(&path)?.unwrap_or_default();
    let text = lines::merged(&before, &values);
    file::replace(&path, text.as_bytes()).map_err(|error| {
        Failure::new(format_args!(
            "cannot write {}: {error}: give --config a path that this user can write",
            path.display()
        ))
    })
}

fn report(plan: &Plan, choice: &Choice, made: &project::Made) -> String {
    let mut text = format!(
        "Configuration: {}\nDatabase:      {choice}, version {}\n",
        plan.config.display(),
        made.version
    );
    if plan.made_token {
        text += &format!("A management token was made: MANAGEMENT_TOKEN in {}\n", plan.config.display());
    }
    if let Some(created) = &made.created {
        text += &format!(
            "Project:       {} ({})\nToken:         {}\nExpires at:    {}\nKeep the token now: it is not shown again.\n",
            created.project_name,
            created.project_id,
            created.token.expose_secret(),
            created.expires_at
        );
    }
    text += &format!("Start the server with: {}\n", server_command(&plan.config));
    text
}

fn server_command(config: &Path) -> String {
    if config == Path::new(dotenv::DEFAULT) {
        return "llm-proxy server".to_owned();
    }
    format!("llm-proxy server --config {}", config.display())
}
