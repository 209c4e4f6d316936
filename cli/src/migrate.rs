//! `llm-proxy migrate`: brings the schema of a database up, takes it back, or shows where it stands. Serving processes on SQLite migrate by
//! themselves; a fleet's PostgreSQL is migrated before its processes start. It refuses to know what the migrations say.

use std::path::Path;

use secrecy::ExposeSecret;
use store::{KeyRing, PostgresOptions, SchemaInfo, SealingKey, Store, StoreError};

use crate::args::{MigrateArgs, MigrateCommand};
use crate::console;
use crate::database::Choice;
use crate::exit::{Failure, Kind, Outcome};
use crate::server::database::{Database, lock};
use crate::serving;

/// Runs one.
pub(crate) fn run(args: &MigrateArgs) -> Result<Outcome, Failure> {
    let choice = Choice::of(args.db.as_deref())?;
    let runtime = serving::runtime()?;
    let ended = runtime.block_on(async {
        match args.command {
            MigrateCommand::Up => up(&choice).await,
            MigrateCommand::Down { yes } => down(&choice, yes).await,
            MigrateCommand::Status => status(&choice).await,
        }
    });
    runtime.shutdown_timeout(serving::LEFTOVERS);
    console::print(&ended?)?;
    Ok(Outcome::Ok)
}

async fn up(choice: &Choice) -> Result<String, Failure> {
    let store = match choice {
        // A new file gets its key with it: later nobody could tell a fresh database from one whose key is lost.
        Choice::Sqlite(path) if !path.exists() => Database::of(Some(path))?.store().await.map_err(|error| failed(choice, error))?,
        _ => open(choice).await?,
    };
    let moved = async {
        let before = version(store.schema_info().await?);
        Ok((before, store.migrate().await?.version))
    };
    let moved = moved.await;
    store.close().await;
    let (before, now) = moved.map_err(|error| failed(choice, error))?;
    Ok(if before < now {
        format!("{choice}: migrated from version {before} to {now}\n")
    } else {
        format!("{choice}: version {now}, nothing to migrate\n")
    })
}

async fn down(choice: &Choice, yes: bool) -> Result<String, Failure> {
    // Nobody may be serving from a file that loses its tables; a lock that is held says who is.
    let _lock = match choice {
        Choice::Sqlite(path) => {
            must_exist(path)?;
            Some(lock(path)?)
        }
        Choice::Postgres(_) => None,
    };
    let store = open(choice).await?;
    let answer = take_back(&store, choice, yes).await;
    store.close().await;
    answer
}

async fn take_back(store: &Store, choice: &Choice, yes: bool) -> Result<String, Failure> {
    let before = version(store.schema_info().await.map_err(|error| failed(choice, error))?);
    if before == 0 {
        return Ok(format!("{choice}: version 0, nothing to take back\n"));
    }
    let question = format!("{choice}: take back migration {before}? What its tables hold is lost.");
    match if yes { Some(true) } else { console::confirm(&question)? } {
        Some(true) => {}
        Some(false) => return Err(Failure::new(format_args!("{choice}: nothing was taken back"))),
        None => {
            return Err(Failure::new(format_args!(
                "{choice}: taking back migration {before} loses what its tables hold: say --yes, or run it on a terminal"
            )));
        }
    }
    let now = version(store.migrate_down(before - 1).await.map_err(|error| failed(choice, error))?);
    Ok(format!("{choice}: taken back from version {before} to {now}\n"))
}

async fn status(choice: &Choice) -> Result<String, Failure> {
    let store = match choice {
        Choice::Sqlite(path) => {
            must_exist(path)?;
            Store::open_sqlite_readonly(path).await.map_err(|error| failed(choice, error))?
        }
        Choice::Postgres(_) => open(choice).await?,
    };
    let found = store.schema_info().await;
    store.close().await;
    let (now, newest) = (version(found.map_err(|error| failed(choice, error))?), SchemaInfo::NEWEST);
    let state = match newest - now {
        0 => "up to date".to_owned(),
        1.. => format!("{} to apply with `llm-proxy migrate up`", newest - now),
        _ => "newer than this llm-proxy".to_owned(),
    };
    Ok(format!("Database: {choice}\nVersion:  {now}\nNewest:   {newest}\nStatus:   {state}\n"))
}

async fn open(choice: &Choice) -> Result<Store, Failure> {
    // Nothing is sealed or opened here: a schema has no secrets.
    let keys = KeyRing::single(SealingKey::generate());
    let store = match choice {
        Choice::Sqlite(path) => Store::open_sqlite(path, keys).await,
        Choice::Postgres(url) => Store::open_postgres(url.expose_secret(), keys, PostgresOptions::default()),
    };
    store.map_err(|error| failed(choice, error))
}

fn must_exist(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "there is no database {}: make one with `llm-proxy migrate up`, or name it with --db (DATABASE_PATH)",
        path.display()
    )))
}

fn version(found: Option<SchemaInfo>) -> i64 {
    found.map_or(0, |found| found.version)
}

fn failed(choice: &Choice, error: StoreError) -> Failure {
    let kind = match (choice, &error) {
        (Choice::Postgres(_), StoreError::Unavailable(_)) => Kind::Network,
        _ => Kind::Other,
    };
    Failure::of(kind, format_args!("{choice}: {error}"))
}
