//! `llm-proxy manage usage`.

use serde_json::Value;

use super::api::Api;
use super::output::{Column, Shape, print, rows};
use crate::args::{OutputFormat, UsageArgs};
use crate::exit::Failure;

/// What the sums are kept apart by; a column is there if a sum has it.
const GROUPS: [Column; 4] = [("DAY", "day"), ("PROJECT", "project_id"), ("TOKEN", "token_id"), ("MODEL", "model")];
const SUMS: [Column; 6] = [
    ("REQUESTS", "requests"),
    ("INPUT", "input_tokens"),
    ("CACHED", "cached_tokens"),
    ("OUTPUT", "output_tokens"),
    ("REASONING", "reasoning_tokens"),
    ("ESTIMATED", "estimated_requests"),
];

/// Asks for the sums; the text to print.
pub(super) async fn run(api: &Api, args: &UsageArgs, format: OutputFormat) -> Result<String, Failure> {
    let groups: Vec<&str> = args.group_by.iter().filter_map(|column| column.name()).collect();
    let given = [
        ("project_id", args.project_id.clone()),
        ("token_id", args.token_id.clone()),
        ("model", args.model.clone()),
        ("from", args.from.clone()),
        ("to", args.to.clone()),
        ("group_by", Some(groups.join(",")).filter(|groups| !groups.is_empty())),
    ];
    let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let documents = api.list("/manage/usage", &query, "cannot show the usage").await?;
    print(format, &documents, Shape::List, table)
}

fn table(documents: &[Value]) -> String {
    let there = |(_, field): &&Column| documents.iter().any(|document| !document[*field].is_null());
    let columns: Vec<Column> = GROUPS.iter().filter(there).chain(&SUMS).copied().collect();
    rows(&columns, documents)
}
