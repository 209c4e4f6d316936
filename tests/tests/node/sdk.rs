//! The official OpenAI Python SDK in a pod, with nothing but the token's Secret as its environment: it streams through the Service, and raises
//! RateLimitError at the limit. Python and the SDK are this machine's, lent to the pod read-only.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{sdk, venv};

use crate::site::Site;
use crate::stage::{Stage, client};

/// Runs a script with its standard input taken from an argument: a pod has none.
const STARTER: &str = "import io, runpy, sys; sys.stdin = io.StringIO(sys.argv[2]); runpy.run_path(sys.argv[1], run_name='__main__')";

/// What an interpreter says of itself, in one line.
fn python_says(python: &Path, expression: &str) -> String {
    let script = format!("import os, sys, sysconfig; print({expression})");
    let output = Command::new(python).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Copies a folder, with its times (they are how Python knows what it has compiled), to where the node sees it: some folders are hidden from it.
fn lend(site: &Site, folder: &str, name: &str) -> String {
    let copy = site.node.scratch(name);
    let status = Command::new("cp").args(["--archive", folder]).arg(&copy).status().unwrap();
    assert!(status.success(), "{folder}");
    copy.to_str().unwrap().to_owned()
}

/// The pod: the machine's system libraries and Python at their own places, the SDK and the script beside them.
fn pod(site: &Site, calls: &Value) -> Value {
    let python = venv::python("openai-sdk", &sdk::folder().join("requirements.txt"));
    let interpreter = python_says(&python, "os.path.realpath(sys.executable)");
    let home = python_says(&python, "sys.base_prefix");
    let modules = lend(site, &python_says(&python, "sysconfig.get_path('purelib')"), "sdk-modules");
    let script = lend(site, sdk::folder().to_str().unwrap(), "sdk-script");
    let mut folders = vec![("/sdk/modules".to_owned(), modules), ("/sdk/script".to_owned(), script)];
    let system = ["/usr", "/lib", "/lib64"].map(str::to_owned);
    for folder in system.into_iter().chain([home]) {
        if Path::new(&folder).is_dir() && !folders.iter().any(|(path, _)| *path == folder) {
            folders.push((folder.clone(), folder));
        }
    }
    // Without what else is installed on this machine.
    let mut pod = client("sdk", "hello", &["-S", "-c", STARTER, "/sdk/script/calls.py", &calls.to_string()]);
    let volumes = folders.iter().enumerate();
    pod["spec"]["volumes"] = volumes
        .clone()
        .map(|(index, (_, source))| json!({ "name": format!("v{index}"), "hostPath": { "path": source } }))
        .collect();
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = volumes
        .map(|(index, (path, _))| json!({ "name": format!("v{index}"), "mountPath": path, "readOnly": true }))
        .collect();
    container["command"] = json!([interpreter]);
    container["env"] = json!([{ "name": "PYTHONPATH", "value": "/sdk/modules" }, { "name": "PYTHONDONTWRITEBYTECODE", "value": "1" }]);
    pod
}

#[test]
fn the_official_sdk_in_a_pod_streams_through_the_service_and_raises_rate_limit_error_at_the_limit() {
    let Some(site) = Site::shared() else { return };
    // A folder of the machine is more than Pod Security `restricted` gives away.
    let stage = Stage::labelled(site, &[]);
    stage.database_secret(&stage.database_url());
    stage.fleet(1);
    let limit = ["patch", "witheringtoken/hello", "--type=merge", r#"--patch={"spec":{"maxRequests":2}}"#];
    let _ = stage.kubectl(&limit).ok();
    let calls = json!([
        { "call": "chat_stream", "model": "echo" },
        { "call": "chat", "model": "echo-20ms" },
        { "call": "chat_stream", "model": "echo" },
    ]);
    let pod = pod(site, &calls);
    stage.wait_for("proxyconfig/main", "condition=Ready");
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    stage.service(1);
    let (content, said) = stage.run_pod(&pod);
    assert!(content, "{said}\n{}", stage.told());
    let seen: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(
        (&seen[0]["ok"]["text"], &seen[0]["ok"]["pieces"]),
        (&json!("Say the fox."), &json!(3)),
        "{seen}"
    );
    assert_eq!(seen[1]["ok"]["text"], "Say the fox.", "{seen}");
    assert_eq!(
        (&seen[2]["error"], &seen[2]["status"], &seen[2]["code"]),
        (&json!("RateLimitError"), &json!(429), &json!("rate_limit_exceeded")),
        "{seen}"
    );
}
