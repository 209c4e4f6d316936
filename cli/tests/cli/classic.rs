//! The command lines that users of the ancestor know, typed as they know them, against a real `llm-proxy server`. Only what cannot be fixed
//! beforehand is put in: addresses, ids and fresh tokens.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::by_hand::bash;
use crate::process::{Ended, Place, Server};
use crate::scripted::{Scripted, events};
use crate::terminal::Terminal;

/// The id that stands in every example.
const EXAMPLE_ID: &str = "123e4567-e89b-12d3-a456-426614174000";

/// A server with the management token `your-token`, and a shell beside it.
struct Classic {
    place: Place,
    server: Server,
    provider: Scripted,
}

/// A streamed answer of one chunk, with its usage.
pub(crate) fn answer(text: &str) -> crate::scripted::Answer {
    let delta = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#);
    let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
    events(&[&delta, last, "[DONE]"])
}

impl Classic {
    fn start(answers: impl IntoIterator<Item = crate::scripted::Answer>) -> Self {
        let place = Place::empty();
        let provider = Scripted::start(answers);
        let mut command = bash("MANAGEMENT_TOKEN=your-token exec llm-proxy server", place.path());
        command.env("OPENAI_API_URL", &provider.url);
        let server = Server::of(command, &place);
        Self { place, server, provider }
    }

    /// A block as it stands in a manual, with `put_in` for what it cannot know.
    fn shell(&self, block: &str, put_in: &[(&str, &str)]) -> Command {
        let mut block = block.replace("http://localhost:8080", &self.server.base_url);
        for (example, real) in put_in {
            block = block.replace(example, real);
        }
        let mut command = bash(&block, self.place.path());
        command
            .env("MANAGEMENT_API_BASE_URL", &self.server.base_url)
            .env("PROXY_URL", &self.server.base_url)
            .env("MANAGEMENT_TOKEN", "your-token");
        command
    }

    fn works(&self, block: &str, put_in: &[(&str, &str)]) -> String {
        let ended: Ended = self.shell(block, put_in).output().unwrap().into();
        assert_eq!(ended.code, Some(0), "{block}: {ended:?}\n{}", self.server.log());
        ended.stdout
    }

    /// The same for a block whose standard output is one JSON document.
    fn json(&self, block: &str, put_in: &[(&str, &str)]) -> Value {
        let text = self.works(block, put_in);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{block}: {text}"))
    }

    /// A project's id.
    fn project(&self, name: &str) -> String {
        let block = "llm-proxy manage project create --name NAME --openai-key sk-your-openai-api-key --management-token your-token --json";
        self.json(block, &[("NAME", name)])["id"].as_str().unwrap().to_owned()
    }

    /// A token's value.
    fn token(&self, project: &str) -> String {
        let block = "llm-proxy manage token generate --project-id <project-id> --management-token your-token --json";
        self.json(block, &[("<project-id>", project)])["token"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_project_commands_do_what_their_manual_says() {
    let classic = Classic::start([]);
    let created = classic.works(
        "llm-proxy manage project create \\\n  --name \"My AI Project\" \\\n  --openai-key sk-your-openai-api-key \\\n  --management-token your-token",
        &[],
    );
    let id = created.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let put_in = [(EXAMPLE_ID, id.as_str()), ("<project-id>", id.as_str())];

    let table = classic.works("llm-proxy manage project list --management-token your-token", &[]);
    assert!(
        table.starts_with("ID ") && table.contains(&id) && table.contains("My AI Project"),
        "{table}"
    );
    assert!(!table.contains("sk-your-openai-api-key"), "the key is masked: {table}");
    let list = classic.json("llm-proxy manage project list --management-token your-token --json", &[]);
    assert_eq!(
        (list[0]["name"].as_str(), list[0]["is_active"].as_bool()),
        (Some("My AI Project"), Some(true))
    );
    assert_eq!(
        classic.works("export MANAGEMENT_TOKEN=your-token\nllm-proxy manage project list", &[]),
        table
    );

    let get = format!("llm-proxy manage project get {EXAMPLE_ID} --management-token your-token");
    assert!(classic.works(&get, &put_in).contains("My AI Project"));
    let update = format!("llm-proxy manage project update {EXAMPLE_ID} \\\n  --name \"Updated Project Name\" \\\n  --management-token your-token");
    assert!(classic.works(&update, &put_in).contains("Updated Project Name"));
    let update =
        format!("llm-proxy manage project update {EXAMPLE_ID} \\\n  --openai-key sk-new-api-key-0123456789abcd \\\n  --management-token your-token");
    assert!(classic.works(&update, &put_in).contains("abcd"));

    let delete = format!("llm-proxy manage project delete {EXAMPLE_ID} --management-token your-token");
    let ended: Ended = classic.shell(&delete, &put_in).output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(
        ended.stderr.contains("HTTP 405: method not allowed") && ended.stderr.contains("project deactivate"),
        "{ended:?}"
    );

    let patch = |body: &str| {
        let block = format!(
            "curl -sX PATCH http://localhost:8080/manage/projects/{EXAMPLE_ID} \\\n  -H \"Authorization: Bearer $MANAGEMENT_TOKEN\" \\\n  \
             -H \"Content-Type: application/json\" \\\n  -d '{body}'"
        );
        classic.json(&block, &put_in)
    };
    assert_eq!(patch(r#"{"is_active": false}"#)["is_active"], false);
    let both = patch(r#"{"name": "Inactive Project", "is_active": false}"#);
    assert_eq!(
        (both["name"].as_str(), both["is_active"].as_bool()),
        (Some("Inactive Project"), Some(false))
    );
    let activated = format!("llm-proxy manage project activate {EXAMPLE_ID} --json");
    assert_eq!(classic.json(&activated, &put_in)["is_active"], true);
    let deactivated = format!("llm-proxy manage project deactivate {EXAMPLE_ID} --json");
    assert_eq!(classic.json(&deactivated, &put_in)["is_active"], false);

    let generate = "llm-proxy manage token generate --project-id <project-id>";
    let ended: Ended = classic.shell(generate, &put_in).output().unwrap().into();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("project_inactive"), "{ended:?}");
    let ended: Ended = classic
        .shell("llm-proxy manage project create --name 'Inactive Project' --openai-key sk-x", &[])
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.starts_with("error: cannot create project Inactive Project: HTTP 409: "),
        "{ended:?}"
    );
    let ended: Ended = classic.shell(&get, &[]).output().unwrap().into();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let ended: Ended = classic
        .shell("llm-proxy manage project list --management-token wrong", &[])
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(!ended.stderr.contains("wrong"), "{ended:?}");
}

#[test]
fn the_token_commands_do_what_their_manual_says() {
    let classic = Classic::start([answer("Hello"), answer("again")]);
    let project = classic.project("Tokens");
    let of_project = [(EXAMPLE_ID, project.as_str()), ("<project-id>", project.as_str())];
    let text = classic.works(
        &format!("llm-proxy manage token generate \\\n  --project-id {EXAMPLE_ID} \\\n  --management-token your-token"),
        &of_project,
    );
    let token = text.lines().next().unwrap().strip_prefix("Token:").unwrap().trim().to_owned();
    assert!(token.starts_with("sk-lp-"), "{text}");
    let limited = classic.works(
        &format!(
            "llm-proxy manage token generate \\\n  --project-id {EXAMPLE_ID} \\\n  --duration 168 \\\n  --max-requests 1000 \\\n  \
             --management-token your-token"
        ),
        &of_project,
    );
    assert!(limited.contains("Max requests: 1000\n"), "{limited}");
    let week = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(168);
    let ends = limited.lines().find_map(|line| line.strip_prefix("Expires at:")).unwrap().trim();
    let ends: jiff::Timestamp = ends.parse().unwrap();
    assert!(
        week.duration_since(ends).abs() < jiff::SignedDuration::from_mins(5),
        "168 hours: {limited}"
    );

    let with_token = [
        (EXAMPLE_ID, project.as_str()),
        ("<project-id>", project.as_str()),
        ("sk-token-id", token.as_str()),
        ("sk-ABC123DEF456GHI789", token.as_str()),
        ("sk-your-withering-token", token.as_str()),
    ];
    let curl = |query: &str| {
        let block = format!("curl -s -H \"Authorization: Bearer $MANAGEMENT_TOKEN\" \\\n  \"http://localhost:8080/manage/tokens{query}\"");
        classic.json(&block, &with_token)
    };
    assert_eq!(curl("").as_array().unwrap().len(), 2);
    assert_eq!(curl(&format!("?project_id={EXAMPLE_ID}")).as_array().unwrap().len(), 2);
    assert_eq!(curl("?active_only=true").as_array().unwrap().len(), 2);
    let id = curl("/sk-ABC123DEF456GHI789")["id"].as_str().unwrap().to_owned();

    let chat = "llm-proxy openai chat --token sk-your-withering-token 'Say hello'";
    assert_eq!(classic.works(chat, &with_token), "Hello\n");
    assert!(
        classic
            .provider
            .asked()
            .headers
            .contains("authorization: Bearer sk-your-openai-api-key\r\n")
    );

    let table = classic.works("llm-proxy manage token list --management-token your-token", &[]);
    assert!(table.starts_with("ID ") && table.contains(&id) && !table.contains(&token), "{table}");
    let shown = classic.works("llm-proxy manage token get sk-token-id --management-token your-token", &with_token);
    assert!(shown.contains(&id) && !shown.contains(&token), "{shown}");
    // Not the whole line: what was used is booked meanwhile.
    let by_id = classic.works(&format!("llm-proxy manage token get {id} --management-token your-token"), &[]);
    assert!(by_id.contains(&id) && !by_id.contains(&token), "{by_id}");
    let updated = classic.json(&format!("llm-proxy manage token update {id} --max-requests 7 --json"), &[]);
    assert_eq!(updated["max_requests"], 7);
    assert_eq!(
        classic.json(&format!("llm-proxy manage token update {id} --deactivate --json"), &[])["is_active"],
        false
    );
    assert_eq!(
        classic.json(&format!("llm-proxy manage token update {id} --activate --json"), &[])["is_active"],
        true
    );

    let revoked = classic.works("llm-proxy manage token revoke sk-token-id --management-token your-token", &with_token);
    assert!(revoked.starts_with("token sk-lp-") && revoked.ends_with("**** revoked\n"), "{revoked}");
    let ended: Ended = classic.shell(chat, &with_token).output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{ended:?}");
    assert!(ended.stderr.contains("token_inactive"), "{ended:?}");

    let active = classic.json("llm-proxy manage token list --active-only --json", &[]);
    assert_eq!(active.as_array().unwrap().len(), 1, "{active}");
    let replacement = classic.works(
        "llm-proxy manage token generate --project-id <project-id> --management-token your-token",
        &with_token,
    );
    assert!(replacement.contains("Keep the token now"), "{replacement}");
    let all = classic.works("llm-proxy manage token revoke-all --project-id <project-id>", &with_token);
    assert_eq!(all, "Revoked:         2\nAlready revoked: 1\nTokens:          3\n");
    let ended: Ended = classic
        .shell(&format!("llm-proxy manage token update {id} --activate"), &[])
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(1), "what is revoked stays so: {ended:?}");

    let delete = classic.works(
        "curl -sX DELETE -H \"Authorization: Bearer $MANAGEMENT_TOKEN\" \\\n  \"http://localhost:8080/manage/tokens/sk-ABC123DEF456GHI789\"",
        &with_token,
    );
    assert_eq!(delete, "");
    let bulk = classic.json(
        &format!(
            "curl -sX POST -H \"Authorization: Bearer $MANAGEMENT_TOKEN\" \\\n  \
             \"http://localhost:8080/manage/projects/{EXAMPLE_ID}/tokens/revoke\""
        ),
        &with_token,
    );
    assert_eq!((bulk["revoked_count"].as_u64(), bulk["total_tokens"].as_u64()), (Some(0), Some(3)));
}

#[test]
fn usage_and_audit_show_what_was_done() {
    let classic = Classic::start([answer("Hello")]);
    let project = classic.project("Counted");
    let token = classic.token(&project);
    assert_eq!(
        classic.works("llm-proxy openai chat --token TOKEN --model gpt-4o hi", &[("TOKEN", &token)]),
        "Hello\n"
    );
    let usage = crate::process::eventually("the request is booked", || {
        let usage = classic.json("llm-proxy manage usage --group-by project,model --json", &[]);
        (usage[0]["requests"] == 1).then_some(usage)
    });
    assert_eq!(
        (
            usage[0]["model"].as_str(),
            usage[0]["input_tokens"].as_u64(),
            usage[0]["output_tokens"].as_u64()
        ),
        (Some("gpt-4o"), Some(3), Some(1))
    );
    let table = classic.works("llm-proxy manage usage", &[]);
    assert!(
        table.starts_with("DAY ") && table.contains("gpt-4o") && table.contains(&project),
        "{table}"
    );

    let audit = classic.works("llm-proxy manage audit list", &[]);
    assert!(
        audit.contains("project.create") && audit.contains("token.create") && audit.contains("page 1 of 1, 2 in all"),
        "{audit}"
    );
    let only = classic.json("llm-proxy manage audit list --action token.create --outcome allowed --json", &[]);
    assert_eq!(only["events"].as_array().unwrap().len(), 1, "{only}");
    assert!(!only.to_string().contains(&token));
    assert!(classic.works("llm-proxy manage audit verify", &[]).ends_with("every chain holds\n"));
}

#[test]
fn the_chat_commands_do_what_their_manual_says() {
    let classic = Classic::start([answer("First"), answer("Second"), answer("Third")]);
    let token = classic.token(&classic.project("Chat"));
    let talk = |block: &str, expected: &str| {
        let shell = classic.shell(
            block,
            &[
                ("sk-your-withering-token", token.as_str()),
                ("https://proxy.example.com", classic.server.base_url.as_str()),
            ],
        );
        let script = shell.get_args().last().unwrap().to_str().unwrap().to_owned();
        let mut command = Command::new("bash");
        let file = classic.place.path().join("chat.sh");
        fs::write(&file, script).unwrap();
        command.arg(&file);
        for (name, value) in shell.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut terminal = Terminal::run(&command);
        terminal.answer("> ", "hello");
        terminal.expect(expected);
        terminal.expect("> ");
        terminal.keys("\u{4}");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        let body: Value = serde_json::from_str(&classic.provider.asked().body).unwrap();
        body["model"].as_str().unwrap().to_owned()
    };
    assert_eq!(talk("llm-proxy openai chat --token sk-your-withering-token", "First"), "gpt-4");
    assert_eq!(
        talk("llm-proxy openai chat --token sk-your-withering-token --model gpt-4o", "Second"),
        "gpt-4o"
    );
    assert_eq!(
        talk(
            "llm-proxy openai chat --token sk-your-withering-token --base-url https://proxy.example.com",
            "Third"
        ),
        "gpt-4"
    );
}

#[test]
fn the_migrate_commands_do_what_their_manual_says() {
    let place = Place::empty();
    let database = place.path().join("database.db");
    let run = |block: &str| -> String {
        let block = block.replace("/path/to/database.db", database.to_str().unwrap());
        let ended: Ended = bash(&block, place.path()).output().unwrap().into();
        assert_eq!(ended.code, Some(0), "{block}: {ended:?}");
        ended.stdout
    };
    let on_terminal = |args: &[&str]| {
        let mut command = crate::process::llm_proxy(args);
        command.current_dir(place.path());
        let mut terminal = Terminal::run(&command);
        terminal.expect("What its tables hold is lost.");
        terminal.keys("y");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("taken back from version"), "{shown}");
    };
    assert!(run("llm-proxy migrate up").starts_with("SQLite data/llm-proxy.db: migrated from version 0"));
    assert!(run("llm-proxy migrate up --db /path/to/database.db").contains("migrated from version 0"));
    assert!(run("llm-proxy migrate status").contains("Status:   up to date\n"));
    assert!(run("llm-proxy migrate status --db /path/to/database.db").contains("Status:   up to date\n"));
    assert_eq!(run("llm-proxy migrate version"), run("llm-proxy migrate status"));
    on_terminal(&["migrate", "down"]);
    on_terminal(&["migrate", "down", "--db", database.to_str().unwrap()]);
    assert!(run("llm-proxy migrate status").contains("to apply with `llm-proxy migrate up`"));
}

#[test]
fn a_server_is_set_up_and_started_as_its_manual_says() {
    let place = Place::empty();
    let config: PathBuf = place.path().join("conf/.env");
    fs::create_dir(config.parent().unwrap()).unwrap();
    let shell = |block: &str| {
        let block = block
            .replace("/path/to/.env", config.to_str().unwrap())
            .replace("/path/to/db.sqlite", place.path().join("db.sqlite").to_str().unwrap())
            .replace(":9000", "127.0.0.1:0");
        bash(&block, place.path())
    };
    let ended: Ended = shell(
        "llm-proxy setup \\\n  --openai-key sk-your-openai-key \\\n  --management-token your-secure-token \\\n  --project \"My Project\" \\\n  \
         --duration 168 \\\n  --config /path/to/.env",
    )
    .output()
    .unwrap()
    .into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("My Project (") && ended.stdout.contains("Token:         sk-lp-"),
        "{ended:?}"
    );
    let server = Server::of(shell("exec llm-proxy server --config /path/to/.env"), &place);
    let list = |server: &Server, token: &str| -> Ended {
        crate::process::llm_proxy([
            "manage",
            "project",
            "list",
            "--json",
            "--manage-api-base-url",
            &server.base_url,
            "--management-token",
            token,
        ])
        .output()
        .unwrap()
        .into()
    };
    let ended = list(&server, "your-secure-token");
    assert!(
        ended.code == Some(0) && ended.stdout.contains("\"My Project\""),
        "{ended:?}\n{}",
        server.log()
    );
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));

    let ended: Ended = shell("llm-proxy setup --openai-key sk-key --management-token token --skip-project")
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("sk-lp-"), "{ended:?}");
    let server = Server::of(shell("FILE_EVENT_LOG=./events.jsonl exec llm-proxy server"), &place);
    assert_eq!(list(&server, "token").code, Some(0));
    let mut another = shell("exec llm-proxy server --addr :9000 --db /path/to/db.sqlite");
    another.env("MANAGEMENT_TOKEN", "your-token");
    let other_place = Place::empty();
    let another = Server::of(another, &other_place);
    assert_eq!(list(&another, "your-token").stdout, "[]\n");
    assert!(place.path().join("db.sqlite").exists());
}
