//! `llm-proxy status`: reads a standalone data directory's database, whether or not its process runs, and never writes to it.

mod document;
mod table;

use std::path::Path;

use store::Store;

use crate::args::{OutputFormat, StatusArgs};
use crate::console;
use crate::data_dir::database_path;
use crate::exit::{Failure, Outcome};
use document::Document;

/// Prints what stands in the data directory; well only if every object is Ready.
pub(crate) fn run(args: &StatusArgs) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start: {error}")))?;
    let document = runtime.block_on(read(&args.data_dir))?;
    let text = match args.format() {
        OutputFormat::Table => table::render(&document),
        OutputFormat::Json => document.to_json()?,
    };
    console::print(&text)?;
    Ok(if document.ready { Outcome::Ok } else { Outcome::NotWell })
}

async fn read(data_dir: &Path) -> Result<Document, Failure> {
    let database = database_path(data_dir);
    if !database.is_file() {
        return Err(Failure::new(format_args!(
            "no database in {}: give --data-dir the directory of a `llm-proxy standalone` that has started once",
            data_dir.display()
        )));
    }
    let failed = |error| Failure::new(format_args!("cannot read {}: {error}", database.display()));
    let store = Store::open_sqlite_readonly(&database).await.map_err(failed)?;
    let answer = async {
        match store.claimed().await? {
            None => Ok(None),
            Some((claim, fleet)) => Document::read(data_dir, &claim, &fleet).await.map(Some),
        }
    }
    .await;
    store.close().await;
    answer.map_err(failed)?.ok_or_else(|| {
        Failure::new(format_args!(
            "{} is not initialised: start `llm-proxy standalone` with this --data-dir once",
            database.display()
        ))
    })
}
