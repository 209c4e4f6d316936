//! `llm-proxy openai spend`: requests until a token is spent, and whether the refusal after them is the expected one. It refuses to know who
//! provides the model, and what the answers say.

use std::time::Duration;

use http::Method;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::args::SpendArgs;
use crate::client::{BaseUrl, Call, Client, ClientError, Remedies};
use crate::console;
use crate::exit::{Failure, Kind, Outcome};

const REMEDIES: Remedies = Remedies {
    address: "--base-url (OPENAI_BASE_URL)",
    credential: "--token (OPENAI_API_KEY)",
};

/// How long between two attempts to reach an address that does not answer yet.
const PAUSE: Duration = Duration::from_millis(500);

/// Spends the token.
pub(crate) fn run(args: &SpendArgs) -> Result<Outcome, Failure> {
    let base = BaseUrl::parse(args.base_url.trim()).map_err(|why| Failure::new(format_args!("{} is no base URL: {why}", REMEDIES.address)))?;
    let token = match &args.token {
        Some(token) if !token.expose_secret().trim().is_empty() => token,
        _ => return Err(Failure::of(Kind::Authentication, "no token: set OPENAI_API_KEY, or give --token")),
    };
    let client = Client::new(base.without_v1(), token, args.ca_bundle.as_deref(), args.timeout, REMEDIES)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start: {error}")))?;
    let spent = runtime.block_on(spend(&client, args));
    // A look-up of a host's name that hangs must not keep the process.
    runtime.shutdown_background();
    spent
}

async fn spend(client: &Client, args: &SpendArgs) -> Result<Outcome, Failure> {
    let deadline = Instant::now() + args.timeout;
    let request = json!({ "model": args.model, "messages": [{ "role": "user", "content": "spend" }] });
    let call = Call::new(Method::POST, "/v1/chat/completions").with_body(&request);
    for number in 1..=args.requests {
        if let Err(error) = ask(client, &call, deadline).await {
            return Err(error.failure(&format!("request {number} of {} was not answered", args.requests), REMEDIES));
        }
    }
    match ask(client, &call, deadline).await {
        Err(ClientError::Refused { code: Some(code), .. }) if code == args.code => {
            console::print(&format!("answered: {}, then refused: {code}\n", args.requests))?;
            Ok(Outcome::Ok)
        }
        Err(error) => Err(error.failure(
            &format!("the request after {} was not refused with {}", args.requests, args.code),
            REMEDIES,
        )),
        Ok(()) => Err(Failure::new(format_args!(
            "the request after {} was answered, and should have been refused with {}: check the token's limit",
            args.requests, args.code
        ))),
    }
}

/// One request, again as often as the other side asks for it or is not there yet.
async fn ask(client: &Client, call: &Call, deadline: Instant) -> Result<(), ClientError> {
    loop {
        let error = match client.send(call).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let pause = match &error {
            ClientError::Refused {
                retry_after: Some(seconds), ..
            } => Duration::from_secs(*seconds),
            ClientError::Unreachable { .. } => PAUSE,
            _ => return Err(error),
        };
        let next = Instant::now() + pause;
        if next > deadline {
            return Err(error);
        }
        sleep_until(next).await;
    }
}
