//! The access line: one event per request under the target `access`, at its end. Never a token, a key or a body.

use std::time::Duration;

use crate::outcome::{End, Outcome, Tokens};

/// Writes the line; its fields are looked at only if somebody listens.
pub(crate) fn log(outcome: &Outcome, tokens: Tokens, total: Duration) {
    let grant = outcome.grant.as_deref();
    tracing::info!(
        target: "access",
        request_id = outcome.request_id.to_str().unwrap_or(""),
        client = %outcome.running.peer().ip(),
        method = outcome.method.as_str(),
        // The table's row, not the path itself: somebody may have put a key into it.
        endpoint = outcome.endpoint.map(|e| e.path),
        status = outcome.status.as_u16(),
        code = outcome.refusal,
        token = grant.map(|g| &*g.token_name),
        project = grant.map(|g| &*g.project_name),
        provider = grant.and_then(|g| g.upstream.as_deref()).map(|u| &*u.provider),
        model = outcome.model.as_deref(),
        head_ms = outcome.head_after.map(millis),
        total_ms = millis(total),
        bytes = outcome.bytes_out,
        input_tokens = tokens.input,
        output_tokens = tokens.output,
        estimated = tokens.estimated,
        end = match outcome.end {
            End::Complete => "complete",
            End::ClientGone => "client_gone",
            End::UpstreamBroke => "upstream_broke",
            End::Drained => "drained",
        },
        "request"
    );
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
