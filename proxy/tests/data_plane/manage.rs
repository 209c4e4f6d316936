//! `/manage` on a port of its own, nowhere, and over a database that takes no writes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxy::{ManageSettings, ManagementToken};
use sqlx::Connection as _;

use crate::client::{Answer, Client};
use crate::stage::{Setup, Upstream};
use crate::wait;

const TOKEN: &str = "management-token-of-the-tests";

fn manage(listen: Option<SocketAddr>) -> Option<ManageSettings> {
    Some(ManageSettings {
        listen,
        token: ManagementToken::Fixed(TOKEN.into()),
    })
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn code(answer: &Answer) -> (u16, String) {
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, json["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_port_of_its_own_it_is_not_beside_v1() {
    let here = Some("127.0.0.1:0".parse().unwrap());
    let mut stage = Setup::new(Upstream::Echo).with(|s| s.manage = manage(here)).start().await;
    let address = stage.proxy.as_ref().unwrap().manage_addr().unwrap();
    assert_ne!(address, stage.address());
    let list = request("GET", "/manage/projects", "");
    assert_eq!(stage.send(&list).await.verdict(), (404, "endpoint_not_found".into()));
    let mut client = Client::open(address).await;
    for _ in 0..2 {
        let answer = client.send(&list).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()));
    }
    assert_eq!(code(&client.send(request("GET", "/v1/models", "")).await), (404, "not_found".into()));
    for path in ["/live", "/ready", "/health", "/metrics"] {
        assert_eq!(client.send(request("GET", path, "")).await.status, 200, "{path}");
        assert_eq!(client.send(request("POST", path, "")).await.status, 405, "{path}");
    }
    assert_eq!(stage.send(request("GET", "/ready", "")).await.status, 200);
    assert_eq!(
        stage.send(request("GET", "/metrics", "")).await.verdict(),
        (404, "endpoint_not_found".into())
    );
    drop(client);
    assert!(stage.drain().await.leases_returned);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "closed with the process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_management_token_there_is_no_manage() {
    let stage = Setup::new(Upstream::Echo).start().await;
    for path in ["/manage", "/manage/projects", "/manage/openapi.json"] {
        let answer = stage.send(request("GET", path, "")).await;
        assert_eq!(answer.verdict(), (404, "endpoint_not_found".into()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_is_503_within_ten_seconds_and_forgotten_afterwards() {
    let stage = Setup::new(Upstream::Echo).with(|s| s.manage = manage(None)).start().await;
    let create = request("POST", "/manage/projects", r#"{"name":"p","api_key":"any"}"#);
    let mut lock = stage.sql_connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let began = Instant::now();
    let refused = tokio::time::timeout(Duration::from_secs(12), stage.send(&create)).await;
    let refused = refused.expect("an answer in time");
    assert_eq!(code(&refused), (503, "database_unavailable".into()));
    assert!(refused.header("retry-after").is_some() && began.elapsed() < Duration::from_secs(11));
    assert_eq!(stage.send(request("GET", "/manage/projects", "")).await.status, 200, "reading goes on");
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    lock.close().await.unwrap();
    assert_eq!(stage.send(&create).await.status, 201);
    wait::until("the failure in the audit", || async {
        let page = stage.send(request("GET", "/manage/audit?outcome=failed", "")).await;
        page.body.contains("database_unavailable")
    })
    .await;
}
