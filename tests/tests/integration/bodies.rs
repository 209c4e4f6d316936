//! Bodies that cannot be forwarded: each with its status and code, none at the provider, none counted.

use serde_json::json;
use testkit::client::{Connection, Request};
use testkit::manifests;
use testkit::stage::Stage;
use testkit::wait;

const CHAT: &str = "/v1/chat/completions";

fn post(body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", CHAT).header("content-type", "application/json").body(body)
}

#[test]
fn each_unusable_body_has_its_own_answer_and_none_counts() {
    let stage = Stage::new(&manifests::max_requests(5));
    let deep = format!("{{\"model\":\"m\",\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let cases: Vec<(&str, Request, u16, &str)> = vec![
        ("not JSON", post("model=m"), 400, "invalid_json"),
        ("cut off", post("{\"model\":\"m\""), 400, "invalid_json"),
        ("something behind it", post("{\"model\":\"m\"} x"), 400, "invalid_json"),
        ("not an object", post("[\"model\"]"), 400, "invalid_json"),
        ("empty", post(""), 400, "invalid_json"),
        ("not UTF-8", post(b"{\"model\":\"\xff\"}".to_vec()), 400, "invalid_json"),
        ("too deep", post(deep), 400, "invalid_json"),
        ("no model", post("{\"messages\":[]}"), 400, "missing_required_parameter"),
        ("a model that is none", post("{\"model\":7}"), 400, "invalid_type"),
        ("two models", post("{\"model\":\"a\",\"model\":\"b\"}"), 400, "duplicate_parameter"),
        (
            "two models, one escaped",
            post("{\"model\":\"a\",\"m\\u006fdel\":\"b\"}"),
            400,
            "duplicate_parameter",
        ),
        (
            "two models, one in capitals",
            post("{\"model\":\"a\",\"MODEL\":\"b\"}"),
            400,
            "duplicate_parameter",
        ),
        (
            "two streams",
            post("{\"model\":\"a\",\"stream\":true,\"stream\":false}"),
            400,
            "duplicate_parameter",
        ),
        (
            "a form",
            Request::new("POST", CHAT)
                .header("content-type", "application/x-www-form-urlencoded")
                .body("model=m"),
            415,
            "unsupported_media_type",
        ),
        (
            "no content type",
            Request::new("POST", CHAT).body("{\"model\":\"m\"}"),
            415,
            "unsupported_media_type",
        ),
        (
            "compressed",
            post("{\"model\":\"m\"}").header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        ("nowhere", Request::post("/v1/nowhere", &json!({"model": "m"})), 404, "endpoint_not_found"),
        ("another method", Request::get(CHAT), 405, "method_not_allowed"),
        (
            "an upgrade",
            Request::get("/v1/realtime")
                .header("connection", "upgrade")
                .header("upgrade", "websocket"),
            501,
            "websocket_not_supported",
        ),
    ];
    for (what, request, status, code) in cases {
        let response = stage.send(request);
        assert_eq!((response.status, response.code().as_str()), (status, code), "{what}: {}", response.text());
    }
    assert_eq!(stage.provider.heads(), 0);
    for _ in 0..5 {
        assert_eq!(stage.send(Request::chat(false)).status, 200);
    }
    assert_eq!(stage.send(Request::chat(false)).status, 429);
}

#[test]
fn a_connection_outlives_a_refused_body() {
    let stage = Stage::new("");
    let mut connection = Connection::open(stage.process.addr()).unwrap();
    for _ in 0..3 {
        assert_eq!(connection.send(&post("{}").bearer(&stage.key)).unwrap().status, 400);
        assert_eq!(connection.send(&Request::chat(false).bearer("sk-lp-x")).unwrap().status, 401);
        assert_eq!(connection.send(&Request::chat(false).bearer(&stage.key)).unwrap().status, 200);
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_by_its_announcement_or_by_its_length() {
    let stage = Stage::new("");
    let head = |framing: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n",
            stage.key
        )
    };
    let mut announced = Connection::open(stage.process.addr()).unwrap();
    announced.write(head("content-length: 40000000").as_bytes()).unwrap();
    let response = announced.response().unwrap();
    assert_eq!(
        (response.status, response.code().as_str()),
        (413, "request_too_large"),
        "{}",
        response.text()
    );

    let mut chunked = Connection::open(stage.process.addr()).unwrap();
    chunked.write(head("transfer-encoding: chunked").as_bytes()).unwrap();
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    // It may close while we are still writing: what counts is the answer.
    for _ in 0..40 {
        if chunked.write(&chunk).is_err() {
            break;
        }
    }
    let response = chunked.response().unwrap();
    assert_eq!(
        (response.status, response.code().as_str()),
        (413, "request_too_large"),
        "{}",
        response.text()
    );
    assert_eq!(stage.provider.heads(), 0);
    assert_eq!(stage.send(Request::chat(false)).status, 200);
}

#[test]
fn a_large_body_within_the_limit_arrives_unchanged() {
    let stage = Stage::new("");
    let body = format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}}],\"model\":\"m\"}}",
        "wörd ".repeat(3 << 20)
    );
    let response = stage.send(post(body.clone()));
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(stage.provider.last().body() == body.as_bytes(), "the provider received other bytes");
}

#[test]
fn a_chunked_body_and_one_that_waits_to_be_asked_arrive_unchanged() {
    let stage = Stage::new("");
    let mut connection = Connection::open(stage.process.addr()).unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
        stage.key
    );
    connection
        .write(format!("{head}transfer-encoding: chunked\r\n\r\n7\r\n{{\"model\r\n6\r\n\":\"m\"}}\r\n0\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(stage.provider.last().body(), b"{\"model\":\"m\"}");
    connection
        .write(format!("{head}content-length: 13\r\nexpect: 100-continue\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(connection.interim().unwrap(), 100);
    connection.write(b"{\"model\":\"n\"}").unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(stage.provider.last().body(), b"{\"model\":\"n\"}");
}

#[test]
fn a_body_that_is_not_wanted_is_not_asked_for() {
    let stage = Stage::new("");
    let mut connection = Connection::open(stage.process.addr()).unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-lp-x\r\ncontent-type: application/json\r\n");
    connection
        .write(format!("{head}content-length: 13\r\nexpect: 100-continue\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(connection.interim().unwrap(), 401);
}

#[test]
fn a_body_that_never_ends_never_reaches_the_provider_and_counts_nothing() {
    let stage = Stage::new(&manifests::max_requests(1));
    for hang_up in [true, false] {
        let mut connection = Connection::open(stage.process.addr()).unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
            stage.key
        );
        connection
            .write(format!("{head}content-length: 100\r\n\r\n{{\"model\":").as_bytes())
            .unwrap();
        if hang_up {
            let _ = connection.hang_up();
        } else if wait::long_variant() {
            // The other side waits 30 s for the next piece.
            let response = connection.response().unwrap();
            assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"));
        } else {
            connection.finish_writing().unwrap();
            assert!(connection.response().map_or(true, |response| response.status == 400));
        }
    }
    assert_eq!(stage.provider.heads(), 0);
    assert_eq!(stage.send(Request::chat(false)).status, 200, "the one request is still there");
}

#[test]
fn headers_that_are_too_large_are_refused() {
    let stage = Stage::new("");
    let response = stage.send(Request::chat(false).header("x-much", &"x".repeat(200 << 10)));
    assert_eq!(response.status, 431);
    let many = (0..2000).fold(Request::chat(false), |request, number| request.header(&format!("x-{number}"), "v"));
    assert_eq!(stage.send(many).status, 431);
    assert_eq!(stage.provider.heads(), 0);
    assert_eq!(stage.send(Request::chat(false).header("x-some", &"x".repeat(8 << 10))).status, 200);
}

#[test]
fn two_lengths_or_two_framings_are_never_forwarded() {
    let stage = Stage::new("");
    for framing in [
        "content-length: 13\r\ncontent-length: 14",
        "content-length: 13\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, gzip",
    ] {
        let mut connection = Connection::open(stage.process.addr()).unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
            stage.key
        );
        connection
            .write(format!("{head}{framing}\r\n\r\n{{\"model\":\"m\"}}0\r\n\r\n").as_bytes())
            .unwrap();
        let _ = connection.finish_writing();
        let status = connection.response().map(|response| response.status);
        assert!(!matches!(status, Ok(200)), "{framing}: {status:?}");
    }
    assert!(
        stage.provider.exchanges().iter().all(|exchange| exchange.target() == CHAT),
        "nothing was smuggled"
    );
}
