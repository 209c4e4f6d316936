//! `llm-proxy openai chat`: a conversation with a model through the proxy, as a session on a terminal or as one answer in a pipe.
//! It refuses to know who provides the model.

mod completion;
mod stream;

use std::io::{self, IsTerminal};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use secrecy::ExposeSecret;
use tokio::runtime::Runtime;

use crate::args::ChatArgs;
use crate::client::{BaseUrl, Client, Remedies};
use crate::console;
use crate::exit::{Failure, Kind, Outcome};
use completion::{Conversation, Ended};

const REMEDIES: Remedies = Remedies {
    address: "--base-url (PROXY_URL)",
    credential: "--token (PROXY_TOKEN)",
};
/// What the address is if the variable is set to nothing.
const DEFAULT_BASE: &str = "http://localhost:8080";
/// The longest message that is read from standard input: what the proxy lets through.
const MAX_MESSAGE: u64 = 32 << 20;

/// Runs what was asked for.
pub(crate) fn run(args: &ChatArgs) -> Result<Outcome, Failure> {
    let client = client(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start: {error}")))?;
    let mut conversation = Conversation::new(client, args);
    let ended = if !args.message.is_empty() {
        once(&runtime, &mut conversation, args.message.join(" "))
    } else if io::stdin().is_terminal() {
        session(&runtime, &mut conversation, &args.model)
    } else {
        console::read_text("the message", MAX_MESSAGE).and_then(|message| once(&runtime, &mut conversation, message))
    };
    // A look-up of a host's name that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

fn client(args: &ChatArgs) -> Result<Client, Failure> {
    let base = match args.base_url.trim() {
        "" => DEFAULT_BASE,
        base => base,
    };
    let base = BaseUrl::parse(base).map_err(|why| Failure::new(format_args!("{} is no base URL: {why}", REMEDIES.address)))?;
    let token = match &args.token {
        Some(token) if !token.expose_secret().trim().is_empty() => token,
        _ => {
            let line = "no token: set PROXY_TOKEN, or give --token; `llm-proxy manage token generate` issues one";
            return Err(Failure::of(Kind::Authentication, line));
        }
    };
    Client::new(base.without_v1(), token, args.ca_bundle.as_deref(), args.timeout, REMEDIES)
}

/// One message, one answer.
fn once(runtime: &Runtime, conversation: &mut Conversation, message: String) -> Result<Outcome, Failure> {
    let message = message.trim();
    if message.is_empty() {
        return Err(Failure::new("the message is empty: give it as an argument or on standard input"));
    }
    runtime.block_on(conversation.say(message, std::future::pending()))?;
    Ok(Outcome::Ok)
}

/// Messages as they are typed, until Ctrl-D. Ctrl-C ends an answer, not the session.
fn session(runtime: &Runtime, conversation: &mut Conversation, model: &str) -> Result<Outcome, Failure> {
    let failed = |error: ReadlineError| Failure::new(format_args!("cannot read from the terminal: {error}"));
    let mut editor = DefaultEditor::new().map_err(failed)?;
    console::print(&format!("{model}: Ctrl-C ends an answer, Ctrl-D the session.\n"))?;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(Outcome::Ok),
            Err(error) => return Err(failed(error)),
        };
        let message = line.trim();
        match message {
            "" => continue,
            "exit" | "quit" => return Ok(Outcome::Ok),
            _ => {}
        }
        // History is a convenience: that a line is not kept changes nothing.
        let _ = editor.add_history_entry(message);
        let interrupted = async {
            // Without a handler Ctrl-C ends the program, which is what whoever types it expects then.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match runtime.block_on(conversation.say(message, interrupted)) {
            Ok(Ended::Whole) => {}
            Ok(Ended::Interrupted) => console::complain("(ended)\n"),
            // With a credential that is refused no further message will get an answer.
            Err(failure) if failure.kind() == Kind::Authentication => return Err(failure),
            Err(failure) => console::complain(&failure.report()),
        }
    }
}
