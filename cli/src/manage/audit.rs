//! `llm-proxy manage audit …`.

use http::Method;
use serde_json::Value;

use super::api::{Api, with_query};
use super::one;
use super::output::{Column, cell, rows};
use crate::args::{AuditCommand, AuditListArgs, OutputFormat};
use crate::exit::{Failure, Outcome};

const EVENTS: [Column; 7] = [
    ("TIME", "timestamp"),
    ("ACTION", "action"),
    ("OUTCOME", "outcome"),
    ("ACTOR", "actor"),
    ("SUBJECT", "subject"),
    ("COUNT", "count"),
    ("REQUEST", "request_id"),
];
const CHAINS: [Column; 3] = [("WRITER", "writer"), ("ROWS", "rows"), ("BROKEN AT", "first_broken_seq")];

/// Runs one; the text to print, and whether the audit is well.
pub(super) async fn run(api: &Api, command: &AuditCommand, format: OutputFormat) -> Result<(String, Outcome), Failure> {
    match command {
        AuditCommand::List(args) => {
            let document = get(api, &target(args), "cannot list the audit").await?;
            Ok((one(format, &document, |pages| pages.iter().map(page).collect())?, Outcome::Ok))
        }
        AuditCommand::Verify => {
            let document = get(api, "/manage/audit/verify", "cannot verify the audit").await?;
            let holds = serde_json::from_str::<Value>(&document).is_ok_and(|found| found["ok"] == true);
            let text = one(format, &document, |found| found.iter().map(|found| verdict(found, holds)).collect())?;
            Ok((text, if holds { Outcome::Ok } else { Outcome::NotWell }))
        }
    }
}

async fn get(api: &Api, target: &str, act: &str) -> Result<String, Failure> {
    Ok(api.call(Method::GET, target, None, act).await?.text().to_owned())
}

fn target(args: &AuditListArgs) -> String {
    let (page, page_size) = (args.page.to_string(), args.page_size.to_string());
    let given = [
        ("action", args.action.as_deref()),
        ("actor", args.actor.as_deref()),
        ("outcome", args.outcome.as_deref()),
        ("project_id", args.project_id.as_deref()),
        ("request_id", args.request_id.as_deref()),
        ("search", args.search.as_deref()),
        ("start_time", args.start_time.as_deref()),
        ("end_time", args.end_time.as_deref()),
        ("page", Some(page.as_str())),
        ("page_size", Some(page_size.as_str())),
    ];
    with_query("/manage/audit", given.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

fn page(document: &Value) -> String {
    let events = document["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pages = &document["pagination"];
    let field = |name: &str| cell(&pages[name]);
    format!(
        "{}page {} of {}, {} in all\n",
        rows(&EVENTS, events),
        field("page"),
        field("total_pages"),
        field("total_count")
    )
}

fn verdict(document: &Value, holds: bool) -> String {
    let chains = document["writers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let verdict = if holds {
        "every chain holds"
    } else {
        "BROKEN: rows are missing, changed or out of order"
    };
    format!("{}{verdict}\n", rows(&CHAINS, chains))
}
