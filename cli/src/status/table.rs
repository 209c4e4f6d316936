//! The status document as borderless tables, in the manner of kubectl: for people, and for a terminal of any width.

use std::fmt::Write;

use super::document::{Document, Object, Token, Usage};
use crate::table::{dash, table};

/// The whole text; every line ends with a newline.
pub(crate) fn render(document: &Document) -> String {
    let mut text = format!("FLEET  {}  {}\n\n", document.fleet, if document.ready { "Ready" } else { "not Ready" });
    text += &table(&["KIND", "OBJECT", "READY", "REASON", "MESSAGE"], document.objects.iter().map(object_row));
    for object in &document.objects {
        // What a Ready object still has to say: a part that is not as it should be although the whole works.
        for condition in object
            .conditions
            .iter()
            .filter(|condition| condition["type"] != "Ready" && condition["status"] != "True")
        {
            let _ = writeln!(
                text,
                "  {} {}/{}: {}={} {}: {}",
                object.kind,
                object.namespace,
                object.name,
                plain(&condition["type"]),
                plain(&condition["status"]),
                plain(&condition["reason"]),
                plain(&condition["message"])
            );
        }
    }
    if !document.tokens.is_empty() {
        text += "\n";
        text += &table(
            &[
                "TOKEN",
                "STATE",
                "REVISION",
                "EXPIRES",
                "USED",
                "LIMIT",
                "RESERVED",
                "FORFEITED",
                "ENV FILE",
            ],
            document.tokens.iter().map(token_row),
        );
    }
    if !document.usage.is_empty() {
        text += "\n";
        text += &table(
            &["TOKEN", "MODEL", "PROVIDER", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "ESTIMATED"],
            document.usage.iter().map(usage_row),
        );
    }
    text
}

fn object_row(object: &Object) -> Vec<String> {
    let ready = object.ready_condition();
    let field = |name: &str| ready.map_or_else(|| dash(None::<String>), |condition| plain(&condition[name]));
    vec![
        object.kind.clone(),
        format!("{}/{}", object.namespace, object.name),
        field("status"),
        field("reason"),
        field("message"),
    ]
}

fn token_row(token: &Token) -> Vec<String> {
    vec![
        format!("{}/{}", token.namespace, token.name),
        token.state.to_owned(),
        dash(token.revision),
        dash(token.expires_at.as_deref()),
        dash(token.used),
        dash(token.max_requests),
        dash(token.reserved),
        dash(token.forfeited),
        dash(token.env_file.as_deref()),
    ]
}

fn usage_row(usage: &Usage) -> Vec<String> {
    vec![
        dash(usage.token.as_deref()),
        usage.model.clone(),
        usage.provider.clone(),
        usage.requests.to_string(),
        usage.input_tokens.to_string(),
        usage.cached_tokens.to_string(),
        usage.output_tokens.to_string(),
        usage.estimated.to_string(),
    ]
}

/// A JSON text without its quotes, on one line.
fn plain(value: &serde_json::Value) -> String {
    let text = value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Document {
        Document {
            fleet: "standalone/default/proxy".to_owned(),
            ready: true,
            time: "2026-01-01T00:00:00Z".to_owned(),
            objects: vec![Object {
                kind: "WitheringToken".to_owned(),
                namespace: "default".to_owned(),
                name: "app".to_owned(),
                uid: "u".to_owned(),
                generation: 1,
                source: "token.yaml".to_owned(),
                ready: true,
                conditions: vec![
                    json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "expires\nlater"}),
                    json!({"type": "Programmed", "status": "False", "reason": "Waiting", "message": "1 replica"}),
                ],
            }],
            tokens: vec![Token {
                namespace: "default".to_owned(),
                name: "app".to_owned(),
                project: Some("default/team".to_owned()),
                state: "Active",
                env_file: Some("data/secrets/default.app.env".to_owned()),
                revision: Some(1),
                prefix: Some("sk-lp-AAAAAAAA".to_owned()),
                issued_at: None,
                expires_at: Some("2026-01-02T00:00:00Z".to_owned()),
                max_requests: None,
                used: None,
                reserved: None,
                forfeited: None,
                revisions: Vec::new(),
            }],
            usage: vec![Usage {
                token: None,
                model: "echo".to_owned(),
                provider: "echo".to_owned(),
                requests: 2,
                ..Usage::default()
            }],
        }
    }

    #[test]
    fn the_tables_have_no_borders_and_one_line_per_thing() {
        let expected = "\
FLEET  standalone/default/proxy  Ready

KIND             OBJECT        READY   REASON   MESSAGE
WitheringToken   default/app   True    Ready    expires later
  WitheringToken default/app: Programmed=False Waiting: 1 replica

TOKEN         STATE    REVISION   EXPIRES                USED   LIMIT   RESERVED   FORFEITED   ENV FILE
default/app   Active   1          2026-01-02T00:00:00Z   -      -       -          -           data/secrets/default.app.env

TOKEN   MODEL   PROVIDER   REQUESTS   INPUT   CACHED   OUTPUT   ESTIMATED
-       echo    echo       2          0       0        0        0
";
        assert_eq!(render(&document()), expected);
    }
}
