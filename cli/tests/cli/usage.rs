//! Help, version, wrong usage, and standard outputs that do not take what is written.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::process::{Ended, llm_proxy, run};

#[test]
fn wrong_usage_exits_1_and_is_told_on_standard_error() {
    let wrong: &[&[&str]] = &[
        &[],
        &["fly"],
        &["standalone"],
        &["standalone", "-f"],
        &["standalone", "-f", "x", "--listen", "nowhere"],
        &["standalone", "-f", "x", "--threads", "many"],
        &["standalone", "-f", "x", "--public-url", "example.com"],
        &["standalone", "-f", "x", "--log-level", "loud"],
        &["status", "-o", "xml"],
        &["status", "--json", "-o", "json"],
        &["version", "now"],
    ];
    for args in wrong {
        let ended = run(*args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("Usage:") || ended.stderr.contains("--help"), "{args:?}: {ended:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    let answers: &[&[&str]] = &[
        &["--help"],
        &["-h"],
        &["help", "status"],
        &["standalone", "--help"],
        &["version"],
        &["--version"],
    ];
    for args in answers {
        let ended = run(*args);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
        assert!(!ended.stdout.is_empty(), "{args:?}");
    }
    let expected = concat!("llm-proxy ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(
        (run(["version"]).stdout.as_str(), run(["--version"]).stdout.as_str()),
        (expected, expected)
    );
}

#[test]
fn the_help_names_every_command_and_flag_that_others_script_against() {
    let help = run(["--help"]).stdout;
    assert!(["standalone", "status", "version"].iter().all(|command| help.contains(command)), "{help}");
    let help = run(["standalone", "--help"]).stdout;
    let expected = [
        "-f, --filename <PATH>",
        "--data-dir <DIR>",
        "--listen <ADDR>",
        "--check",
        "--public-url <URL>",
        "LISTEN_ADDR",
        "LOG_LEVEL",
        "LOG_FILE",
    ];
    assert!(expected.iter().all(|flag| help.contains(flag)), "{help}");
    let help = run(["status", "--help"]).stdout;
    assert!(
        ["--data-dir <DIR>", "-o, --output <FORMAT>", "--json"]
            .iter()
            .all(|flag| help.contains(flag)),
        "{help}"
    );
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended: Ended = llm_proxy(["standalone", "--help"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
        .into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn an_output_that_cannot_be_written_is_told() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended: Ended = llm_proxy(["version"]).stdout(full).stderr(Stdio::piped()).output().unwrap().into();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("error: cannot write to standard output: "), "{}", ended.stderr);
}

#[test]
fn status_of_a_directory_without_a_database_is_an_error_in_one_line() {
    let root = tempfile::tempdir().unwrap();
    let ended: Ended = llm_proxy(["status", "--data-dir"]).arg(root.path()).output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.starts_with("error: no database in ") && ended.stderr.lines().count() == 1,
        "{}",
        ended.stderr
    );
    assert_eq!(root.path().read_dir().unwrap().count(), 0, "status writes nothing");
}

#[test]
fn completions_know_the_commands() {
    let complete = "set +eu; source <(llm-proxy completion bash); COMP_WORDS=(llm-proxy manage token re); COMP_CWORD=3; \
                    $(complete -p llm-proxy | sed 's/.*-F \\([^ ]*\\).*/\\1/') llm-proxy re token; echo \"${COMPREPLY[*]}\"";
    let ended: Ended = crate::by_hand::bash(complete, std::path::Path::new("/")).output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "revoke revoke-all\n"), "{ended:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let ended = run(["completion", shell]);
        assert!(ended.code == Some(0) && ended.stdout.contains("revoke-all"), "{shell}: {ended:?}");
    }
}
