//! `llm-proxy manage` against a scripted server: what it asks, what it prints, and how it ends when the answer is none.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::process::{Ended, llm_proxy};
use crate::scripted::{Answer, Asked, Scripted, answer, json};

const ID: &str = "123e4567-e89b-12d3-a456-426614174000";
const TOKEN: &str = "sk-lp-AAAAAAAA-000000000000000000000000000000002IEiq3";
const PROJECT: &str = r#"{"id":"123e4567-e89b-12d3-a456-426614174000","name":"My AI Project","provider":"openai","api_key":"sk-...3456","is_active":true,"created_at":"2026-11-21T01:16:02.638215372Z","updated_at":"2026-11-21T01:16:02Z"}"#;
const ISSUED: &str = r#"{"id":"0b6a7c1e-0000-7000-8000-000000000001","token":"sk-lp-AAAAAAAA-000000000000000000000000000000002IEiq3","expires_at":"2026-11-22T00:00:00Z","max_requests":1000}"#;

fn manage<A: AsRef<OsStr>>(server: &Scripted, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = llm_proxy(["manage"]);
    command
        .args(args)
        .env("MANAGEMENT_API_BASE_URL", &server.url)
        .env("MANAGEMENT_TOKEN", "management-canary");
    command
}

/// One command, one answer.
fn asks(args: &[&str], with: Answer) -> (Asked, Ended) {
    let server = Scripted::start([with]);
    let ended: Ended = manage(&server, args).output().unwrap().into();
    (server.asked(), ended)
}

fn succeeds(args: &[&str], with: Answer) -> (Asked, String) {
    let (asked, ended) = asks(args, with);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
    assert!(asked.headers.contains("authorization: Bearer management-canary\r\n"), "{asked:?}");
    assert!(asked.headers.contains("host: 127.0.0.1:"), "{asked:?}");
    (asked, ended.stdout)
}

/// Asserts one line on standard error that names no secret; that line.
fn failed(ended: &Ended, code: i32) -> &str {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
    ended.stderr.trim_end()
}

#[test]
fn projects_are_listed_as_a_table_or_as_the_apis_own_documents() {
    let list = format!("[{PROJECT}]");
    let (asked, table) = succeeds(&["project", "list"], json(200, &list));
    assert_eq!((asked.line.as_str(), asked.body.as_str()), ("GET /manage/projects", ""));
    assert_eq!(
        table,
        "ID                                     NAME            PROVIDER   API KEY      ACTIVE   CREATED                UPDATED\n\
         123e4567-e89b-12d3-a456-426614174000   My AI Project   openai     sk-...3456   yes      2026-11-21T01:16:02Z   2026-11-21T01:16:02Z\n"
    );
    for json_flag in [
        &["--json", "project", "list"][..],
        &["project", "list", "--json"],
        &["project", "-o", "json", "list"],
    ] {
        let (_, text) = succeeds(json_flag, json(200, &list));
        let compact: String = text.lines().map(|line| line.trim_start().replacen("\": ", "\":", 1)).collect();
        assert_eq!(compact, list, "{json_flag:?}");
    }
    assert_eq!(succeeds(&["project", "list", "--json"], json(200, "[]")).1, "[]\n");
}

#[test]
fn a_list_of_several_pages_is_followed_to_its_end() {
    let page = |id: u32, next: &str| answer(200, &format!("content-type: application/json\r\n{next}"), &format!("[{{\"id\":{id}}}]"));
    let server = Scripted::start([
        page(1, "x-next-cursor: a b\r\n"),
        page(2, "link: </manage/tokens?project_id=p&cursor=c>; rel=\"next\"\r\n"),
        page(3, ""),
    ]);
    let args = ["token", "list", "--project-id", "p", "--active-only", "--json"];
    let ended: Ended = manage(&server, args).output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ids: Vec<_> = ended.stdout.lines().filter(|line| line.contains("\"id\"")).map(str::trim).collect();
    assert_eq!(ids, ["\"id\": 1", "\"id\": 2", "\"id\": 3"]);
    assert_eq!(server.asked().line, "GET /manage/tokens?project_id=p&active_only=true");
    assert_eq!(server.asked().line, "GET /manage/tokens?project_id=p&active_only=true&cursor=a%20b");
    assert_eq!(server.asked().line, "GET /manage/tokens?project_id=p&cursor=c");
}

#[test]
fn a_list_that_goes_in_a_circle_or_to_another_server_is_an_error() {
    let circle = || answer(200, "link: </manage/tokens>; rel=next\r\n", "[]");
    let server = Scripted::start([circle()]);
    let ended: Ended = manage(&server, ["token", "list"]).output().unwrap().into();
    assert!(failed(&ended, 1).contains("in a circle"), "{ended:?}");
    let away = answer(200, "link: <https://evil.example/manage/tokens>; rel=next\r\n", "[]");
    assert!(failed(&asks(&["token", "list"], away).1, 1).contains("another server"));
}

#[test]
fn each_project_command_asks_what_it_says() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["project", "get", ID], "GET /manage/projects/123e4567-e89b-12d3-a456-426614174000", ""),
        (
            &["project", "create", "--name", "My AI Project", "--openai-key", "sk-canary"],
            "POST /manage/projects",
            r#"{"name":"My AI Project","api_key":"sk-canary"}"#,
        ),
        (
            &["project", "create", "--name", "n", "--api-key=sk-canary"],
            "POST /manage/projects",
            r#"{"name":"n","api_key":"sk-canary"}"#,
        ),
        (
            &["project", "update", ID, "--name", "Updated"],
            "PATCH /manage/projects/123e4567-e89b-12d3-a456-426614174000",
            r#"{"name":"Updated"}"#,
        ),
        (
            &["project", "update", ID, "--openai-key", "sk-canary"],
            "PATCH /manage/projects/123e4567-e89b-12d3-a456-426614174000",
            r#"{"api_key":"sk-canary"}"#,
        ),
        (
            &["project", "activate", ID],
            "PATCH /manage/projects/123e4567-e89b-12d3-a456-426614174000",
            r#"{"is_active":true}"#,
        ),
        (
            &["project", "deactivate", ID],
            "PATCH /manage/projects/123e4567-e89b-12d3-a456-426614174000",
            r#"{"is_active":false}"#,
        ),
        (
            &["project", "deactivate", ID, "--revoke-tokens"],
            "PATCH /manage/projects/123e4567-e89b-12d3-a456-426614174000",
            r#"{"is_active":false,"revoke_tokens":true}"#,
        ),
        (&["project", "get", "../tokens?x"], "GET /manage/projects/..%2Ftokens%3Fx", ""),
    ];
    for (args, line, body) in cases {
        let (asked, printed) = succeeds(args, json(200, PROJECT));
        assert_eq!(asked.line, *line, "{args:?}");
        same_json(&asked.body, body);
        assert!(
            printed.starts_with("ID ") && printed.contains(ID) && !printed.contains("canary"),
            "{printed}"
        );
    }
}

/// The order of fields says nothing.
fn same_json(left: &str, right: &str) {
    let read = |text: &str| {
        let text = if text.is_empty() { "null" } else { text };
        serde_json::from_str::<serde_json::Value>(text).unwrap()
    };
    assert_eq!(read(left), read(right));
}

#[test]
fn a_provider_key_comes_from_a_pipe_and_leaves_no_trace() {
    for args in [
        &["project", "create", "--name", "n", "--openai-key-stdin"][..],
        &["project", "create", "--name", "n", "--openai-key", "-"],
    ] {
        let server = Scripted::start([json(201, PROJECT)]);
        let mut child = manage(&server, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"sk-canary\n").unwrap();
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        same_json(&server.asked().body, r#"{"name":"n","api_key":"sk-canary"}"#);
    }
    let server = Scripted::start([]);
    let ended: Ended = manage(&server, ["project", "create", "--name", "n"]).output().unwrap().into();
    assert!(failed(&ended, 1).contains("--openai-key-stdin"), "{ended:?}");
    let ended: Ended = manage(&server, ["project", "create", "--name", "n", "--openai-key-stdin"])
        .output()
        .unwrap()
        .into();
    assert!(failed(&ended, 1).contains("the provider key is empty"), "{ended:?}");
    let ended: Ended = manage(&server, ["project", "update", ID]).output().unwrap().into();
    assert!(failed(&ended, 1).contains("nothing to update"), "{ended:?}");
}

#[test]
fn deleting_a_project_fails_and_says_what_to_do_instead() {
    let refused = r#"{"error":"method not allowed","message":"project deletion is not permitted"}"#;
    let (asked, ended) = asks(&["project", "delete", ID], json(405, refused));
    assert_eq!(asked.line, "DELETE /manage/projects/123e4567-e89b-12d3-a456-426614174000");
    let line = failed(&ended, 1);
    assert!(line.contains("HTTP 405: method not allowed"), "{line}");
    assert!(line.contains(&format!("llm-proxy manage project deactivate {ID}")), "{line}");
}

#[test]
fn a_token_is_generated_for_hours_or_minutes_and_shown_once() {
    let with = |more: &[&str]| {
        let args = [&["token", "generate", "--project-id", ID], more].concat();
        succeeds(&args, json(200, ISSUED))
    };
    let (asked, printed) = with(&["--max-requests", "1000"]);
    assert_eq!(asked.line, "POST /manage/tokens");
    same_json(
        &asked.body,
        r#"{"project_id":"123e4567-e89b-12d3-a456-426614174000","duration_minutes":1440,"max_requests":1000}"#,
    );
    assert_eq!(
        printed,
        format!(
            "Token:        {TOKEN}\nID:           0b6a7c1e-0000-7000-8000-000000000001\nExpires at:   2026-11-22T00:00:00Z\n\
             Max requests: 1000\nKeep the token now: it is not shown again.\n"
        )
    );
    same_json(
        &with(&["--duration", "168"]).0.body,
        r#"{"project_id":"123e4567-e89b-12d3-a456-426614174000","duration_minutes":10080}"#,
    );
    same_json(
        &with(&["--duration-minutes", "5", "--max-requests", "0"]).0.body,
        r#"{"project_id":"123e4567-e89b-12d3-a456-426614174000","duration_minutes":5}"#,
    );
    let (_, text) = with(&["--json"]);
    same_json(&text, ISSUED);
}

#[test]
fn each_token_command_asks_what_it_says_and_never_repeats_a_value() {
    let token = r#"{"id":"i","token":"sk-lp-AAAAAAAA…","project_id":"p","is_active":true,"request_count":3,"max_requests":null}"#;
    let cases: &[(&[&str], &str, &str)] = &[
        (&["token", "get", ID], "GET /manage/tokens/123e4567-e89b-12d3-a456-426614174000", ""),
        (
            &["token", "get", TOKEN],
            "GET /manage/tokens/sk-lp-AAAAAAAA-000000000000000000000000000000002IEiq3",
            "",
        ),
        (
            &["token", "update", ID, "--max-requests", "0", "--activate"],
            "PATCH /manage/tokens/123e4567-e89b-12d3-a456-426614174000",
            r#"{"max_requests":0,"is_active":true}"#,
        ),
        (
            &["token", "update", ID, "--deactivate"],
            "PATCH /manage/tokens/123e4567-e89b-12d3-a456-426614174000",
            r#"{"is_active":false}"#,
        ),
    ];
    for (args, line, body) in cases {
        let (asked, printed) = succeeds(args, json(200, token));
        assert_eq!(asked.line, *line, "{args:?}");
        same_json(&asked.body, body);
        assert!(printed.starts_with("ID ") && printed.contains("sk-lp-AAAAAAAA…"), "{printed}");
    }
    let (asked, printed) = succeeds(&["token", "revoke", TOKEN], answer(204, "", ""));
    assert_eq!(asked.line, format!("DELETE /manage/tokens/{TOKEN}"));
    assert_eq!(printed, "token sk-lp-AAAAAAAA**** revoked\n");
    assert_eq!(succeeds(&["token", "revoke", ID, "--json"], answer(204, "", "")).1, "");
    let counts = r#"{"revoked_count":2,"already_revoked_count":1,"total_tokens":3}"#;
    let (asked, printed) = succeeds(&["token", "revoke-all", "--project-id", ID], json(200, counts));
    assert_eq!(asked.line, "POST /manage/projects/123e4567-e89b-12d3-a456-426614174000/tokens/revoke");
    assert_eq!(printed, "Revoked:         2\nAlready revoked: 1\nTokens:          3\n");

    let (_, ended) = asks(
        &["token", "get", TOKEN],
        json(404, r#"{"error":"token not found","code":"token_not_found"}"#),
    );
    let line = failed(&ended, 4);
    assert_eq!(
        line,
        "error: cannot show token sk-lp-AAAAAAAA****: HTTP 404: token not found (token_not_found)"
    );
}

#[test]
fn every_refusal_of_the_api_has_one_line_and_its_exit_code() {
    let cases = [
        (
            401,
            r#"{"error":"invalid management token","code":"invalid_token"}"#,
            3,
            "check --management-token (MANAGEMENT_TOKEN)",
        ),
        (
            403,
            r#"{"error":"cannot create tokens for inactive projects","code":"project_inactive"}"#,
            3,
            "project_inactive",
        ),
        (404, r#"{"error":"project not found","code":"project_not_found"}"#, 4, "project not found"),
        (
            409,
            r#"{"error":"a project of this name exists","code":"project_exists"}"#,
            1,
            "project_exists",
        ),
        (500, r#"{"error":"boom","code":"internal"}"#, 1, "see the server's log"),
        (
            503,
            r#"{"error":"database away\u001b[2J","code":"database_unavailable"}"#,
            1,
            "HTTP 503: database away [2J (database_unavailable)",
        ),
    ];
    for (status, body, code, expected) in cases {
        let (_, ended) = asks(&["project", "list"], json(status, body));
        let line = failed(&ended, code);
        assert!(
            line.starts_with("error: cannot list projects: HTTP ") && line.contains(expected),
            "{line}"
        );
    }
    let slow_down = answer(
        429,
        "retry-after: 7\r\ncontent-type: application/json\r\n",
        r#"{"error":"too many failures","code":"throttled"}"#,
    );
    let (_, ended) = asks(&["project", "list"], slow_down);
    assert!(failed(&ended, 1).ends_with("try again in 7 s"), "{ended:?}");
}

#[test]
fn an_answer_that_is_not_the_apis_has_one_line() {
    let html = |status| answer(status, "content-type: text/html; charset=utf-8\r\n", "<html><body>nginx</body></html>");
    let with = |answer| asks(&["project", "list"], answer).1;
    assert!(failed(&with(html(200)), 1).contains("a web page instead of JSON: check --manage-api-base-url (MANAGEMENT_API_BASE_URL)"));
    assert!(failed(&with(html(404)), 1).contains("a web page"));
    assert!(failed(&with(html(502)), 1).contains("answered 502 with a web page"));
    assert!(failed(&with(json(200, "{\"not\":\"a list\"}")), 1).contains("something else than a list"));
    assert!(failed(&with(json(200, "[{\"id\":")), 1).contains("broken or unknown JSON"));
    assert!(failed(&with(answer(302, "location: https://login.example/\r\n", "")), 1).contains("redirects to https://login.example/"));
    let cut = Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_owned());
    assert!(failed(&with(cut), 2).contains("ended before the answer did"));
    assert!(failed(&with(Answer::Bytes(String::new())), 2).contains("ended before the answer did"));
    assert!(failed(&with(Answer::Bytes("SSH-2.0-OpenSSH\r\n".to_owned())), 1).contains("does not speak plain HTTP/1.1"));
    let endless = Answer::Bytes(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n[{}",
        40 << 20,
        " ".repeat(40 << 20)
    ));
    assert!(failed(&with(endless), 1).contains("larger than 32 MiB"));
}

#[test]
fn a_server_that_is_slow_or_away_has_exit_codes_of_its_own() {
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n["] {
        let (_, ended) = asks(&["project", "list", "--timeout", "300ms"], Answer::Stall(begun.to_owned()));
        let line = failed(&ended, 5);
        assert!(line.contains("within 300ms") && line.contains("--timeout"), "{line}");
    }
    // Bound and then closed: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for base in [format!("http://{free}"), format!("https://{free}"), "http://nowhere.invalid".to_owned()] {
        let ended: Ended = llm_proxy([
            "manage",
            "project",
            "list",
            "--management-token",
            "canary",
            "--manage-api-base-url",
            &base,
        ])
        .output()
        .unwrap()
        .into();
        let line = failed(&ended, 2);
        assert!(
            line.contains(&format!("no connection to {base}: ")) && line.contains("is the server running?"),
            "{line}"
        );
    }
    let plain = Scripted::start([answer(200, "", "[]")]);
    let ended: Ended = manage(
        &plain,
        ["project", "list", "--manage-api-base-url", &plain.url.replace("http:", "https:")],
    )
    .output()
    .unwrap()
    .into();
    assert!(failed(&ended, 2).contains("no TLS with https://127.0.0.1:"), "{ended:?}");
}

#[test]
fn an_address_or_a_credential_that_cannot_be_used_is_told_before_anything_is_sent() {
    for (base, expected) in [("localhost:8080", "expected http://"), ("http://u:canary@x", "leave them out")] {
        let ended: Ended = llm_proxy(["manage", "project", "list", "--management-token", "t", "--manage-api-base-url", base])
            .output()
            .unwrap()
            .into();
        assert!(failed(&ended, 1).contains(expected), "{ended:?}");
    }
    let ended: Ended = llm_proxy(["manage", "project", "list"]).output().unwrap().into();
    assert!(failed(&ended, 3).contains("MANAGEMENT_TOKEN"), "{ended:?}");
    let ended: Ended = llm_proxy(["manage", "project", "list", "--management-token", "canary\n1"])
        .output()
        .unwrap()
        .into();
    assert!(failed(&ended, 1).contains("characters that no credential has"), "{ended:?}");
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let place = tempfile::tempdir().unwrap();
    let ask = |arrange: &dyn Fn(&mut Command)| {
        let server = Scripted::start([json(200, "[]")]);
        let url = format!("MANAGEMENT_API_BASE_URL={}\n", server.url);
        fs::write(
            place.path().join(".env"),
            format!("# ours\n{url}export MANAGEMENT_TOKEN='from file'\nOTHER=x\n"),
        )
        .unwrap();
        fs::write(place.path().join("other.env"), format!("{url}MANAGEMENT_TOKEN=from-other\n")).unwrap();
        let mut command = llm_proxy(["manage", "project", "list"]);
        command.current_dir(place.path());
        arrange(&mut command);
        let ended: Ended = command.output().unwrap().into();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let headers = server.asked().headers;
        headers
            .lines()
            .find_map(|line| line.strip_prefix("authorization: Bearer "))
            .unwrap()
            .to_owned()
    };
    assert_eq!(ask(&|_| {}), "from file");
    let file = |command: &mut Command| {
        command.arg("--config=other.env");
    };
    assert_eq!(ask(&file), "from-other");
    let environment = |command: &mut Command| {
        command.env("MANAGEMENT_TOKEN", "from-environment");
    };
    assert_eq!(ask(&environment), "from-environment");
    let flag = |command: &mut Command| {
        command
            .env("MANAGEMENT_TOKEN", "from-environment")
            .args(["--management-token", "from-flag"]);
    };
    assert_eq!(ask(&flag), "from-flag");
    let help = llm_proxy(["manage", "--help"]).env("MANAGEMENT_TOKEN", "canary").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("[default: http://localhost:8080]") && !help.contains("canary"), "{help}");
}

#[test]
fn a_file_of_variables_that_cannot_be_read_is_told_without_what_stands_in_it() {
    let place = tempfile::tempdir().unwrap();
    let with = |args: &[&str]| -> Ended {
        let mut command = llm_proxy(["manage", "project", "list"]);
        command.args(args).current_dir(place.path()).output().unwrap().into()
    };
    assert!(failed(&with(&["--config", "missing.env"]), 1).contains("missing.env"));
    assert!(failed(&with(&["--config", "."]), 1).contains("directory"));
    fs::write(place.path().join(".env"), "A=1\nMANAGEMENT_TOKEN='sk-canary\n").unwrap();
    let ended = with(&[]);
    assert!(failed(&ended, 1).starts_with("error: .env:2: expected NAME=value"), "{ended:?}");
}

#[test]
fn wrong_usage_of_manage_exits_1() {
    let wrong: &[&[&str]] = &[
        &[],
        &["project"],
        &["project", "get"],
        &["project", "get", ""],
        &["project", "create", "--openai-key", "x"],
        &["project", "create", "--name", "n", "--openai-key", "k", "--openai-key-stdin"],
        &["token", "generate"],
        &["token", "generate", "--project-id", "p", "--duration", "0"],
        &["token", "generate", "--project-id", "p", "--duration", "8761"],
        &["token", "generate", "--project-id", "p", "--duration", "1", "--duration-minutes", "60"],
        &["token", "generate", "--project-id", "p", "--max-requests", "-1"],
        &["token", "update", "t"],
        &["token", "update", "t", "--activate", "--deactivate"],
        &["token", "revoke-all"],
        &["project", "list", "--json", "-o", "table"],
        &["project", "list", "--timeout", "soon"],
    ];
    for args in wrong {
        let ended: Ended = llm_proxy(["manage"]).args(*args).output().unwrap().into();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("Usage:") || ended.stderr.contains("--help"), "{args:?}: {ended:?}");
    }
}

#[test]
fn usage_is_asked_for_by_what_it_is_grouped_by() {
    let row = r#"[{"day":"2026-11-21","model":"gpt-4","requests":3,"input_tokens":10,"cached_tokens":0,"output_tokens":5,"reasoning_tokens":0,"estimated_requests":1,"cost_microcents":0}]"#;
    let (asked, table) = succeeds(
        &["usage", "--from", "2026-11-01", "--project-id", "p", "--group-by", "day,model"],
        json(200, row),
    );
    assert_eq!(asked.line, "GET /manage/usage?project_id=p&from=2026-11-01&group_by=day%2Cmodel");
    assert_eq!(
        table,
        "DAY          MODEL   REQUESTS   INPUT   CACHED   OUTPUT   REASONING   ESTIMATED\n\
         2026-11-21   gpt-4   3          10      0        5        0           1\n"
    );
    assert_eq!(succeeds(&["usage", "--group-by", "none"], json(200, "[]")).0.line, "GET /manage/usage");
    let (asked, _) = succeeds(&["usage", "--json"], json(200, row));
    assert_eq!(asked.line, "GET /manage/usage?group_by=day%2Cproject%2Ctoken%2Cmodel");
}

#[test]
fn the_audit_is_shown_by_page_and_a_broken_chain_exits_1() {
    let page = r#"{"events":[{"timestamp":"2026-11-21T01:16:02.6Z","action":"token.create","outcome":"allowed","actor":"management","subject":"token t","count":1,"request_id":"r"}],"pagination":{"page":2,"page_size":1,"total_count":3,"total_pages":3,"has_next":true,"has_prev":true}}"#;
    let (asked, table) = succeeds(
        &["audit", "list", "--action", "token.create", "--page", "2", "--page-size", "1"],
        json(200, page),
    );
    assert_eq!(asked.line, "GET /manage/audit?action=token.create&page=2&page_size=1");
    assert_eq!(
        table,
        "TIME                   ACTION         OUTCOME   ACTOR        SUBJECT   COUNT   REQUEST\n\
         2026-11-21T01:16:02Z   token.create   allowed   management   token t   1       r\n\
         page 2 of 3, 3 in all\n"
    );
    let whole = r#"{"ok":true,"writers":[{"writer":"w","rows":7,"first_broken_seq":null}]}"#;
    let (asked, table) = succeeds(&["audit", "verify"], json(200, whole));
    assert_eq!(asked.line, "GET /manage/audit/verify");
    assert_eq!(table, "WRITER   ROWS   BROKEN AT\nw        7      -\nevery chain holds\n");
    let broken = r#"{"ok":false,"writers":[{"writer":"w","rows":7,"first_broken_seq":3}]}"#;
    let (_, ended) = asks(&["audit", "verify"], json(200, broken));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""), "{ended:?}");
    assert!(
        ended
            .stdout
            .ends_with("w        7      3\nBROKEN: rows are missing, changed or out of order\n"),
        "{}",
        ended.stdout
    );
    let (_, ended) = asks(&["audit", "verify", "-o", "json"], json(200, broken));
    assert_eq!(ended.code, Some(1));
    same_json(&ended.stdout, broken);
}
