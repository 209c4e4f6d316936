//! Heads as providers send them, and as somebody sends them who wants two readers to disagree.

use super::*;

fn parse(head: &str) -> Result<AnswerHead, BadHead> {
    AnswerHead::parse(&Bytes::copy_from_slice(head.as_bytes()), &Method::POST)
}

fn framing(headers: &str) -> Result<Framing, BadHead> {
    parse(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).map(|head| head.framing)
}

#[test]
fn what_travels_on_are_slices_of_the_head_and_the_hops_own_headers_stay() {
    let head = parse(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: X-Hop\r\nx-hop: 1\r\nKeep-Alive: timeout=5\r\nvia: a\r\nvia: b\r\n\
         X-Request-Id: theirs\r\nset-cookie: a=b\r\ncontent-length: 3\r\n\r\n",
    )
    .expect("a head");
    let names: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("content-type", "text/plain"),
            ("via", "a"),
            ("via", "b"),
            ("x-upstream-request-id", "theirs"),
            ("content-length", "3"),
        ]
    );
    assert!(head.persistent);
    assert_eq!(head.status, 200);
}

#[test]
fn a_length_a_coding_or_the_connections_end_frames_the_body() {
    assert!(matches!(framing("content-length: 5\r\n"), Ok(Framing::Length(5))));
    assert!(matches!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked(_))));
    assert!(matches!(framing(""), Ok(Framing::UntilClose)));
}

#[test]
fn two_framings_or_an_odd_one_are_refused() {
    for (headers, why) in [
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", BadHead::TwoLengths),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", BadHead::TwoLengths),
        ("content-length: 5\r\ncontent-length: 6\r\n", BadHead::TwoLengths),
        ("content-length: 5\r\nContent-Length: 5\r\n", BadHead::TwoLengths),
        ("content-length: 5, 5\r\n", BadHead::NoLength),
        ("content-length: +5\r\n", BadHead::NoLength),
        ("content-length: -5\r\n", BadHead::NoLength),
        ("content-length: 0x5\r\n", BadHead::NoLength),
        ("content-length: \r\n", BadHead::NoLength),
        ("content-length: 18446744073709551616\r\n", BadHead::NoLength),
        ("transfer-encoding: gzip, chunked\r\n", BadHead::Coding),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", BadHead::Coding),
        ("transfer-encoding: identity\r\n", BadHead::Coding),
        ("transfer-encoding: \r\n", BadHead::Coding),
        ("transfer-encoding: \x0bchunked\r\n", BadHead::NotHttp(httparse::Error::HeaderValue)),
        ("transfer-encoding : chunked\r\n", BadHead::NotHttp(httparse::Error::HeaderName)),
        ("x: 1\r\n folded: 2\r\n", BadHead::NotHttp(httparse::Error::HeaderName)),
        ("x: a\rb\r\n", BadHead::NotHttp(httparse::Error::HeaderValue)),
        ("x: a\0b\r\n", BadHead::NotHttp(httparse::Error::HeaderValue)),
    ] {
        assert_eq!(framing(headers).expect_err(headers), why, "{headers:?}");
    }
    assert_eq!(
        parse("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").expect_err("HTTP/1.0 knows no codings"),
        BadHead::Coding
    );
}

#[test]
fn answers_that_have_no_body_have_none_whatever_they_say() {
    for status in [100, 103, 204, 304] {
        let head = parse(&format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\n")).expect("a head");
        assert!(matches!(head.framing, Framing::Length(0)), "{status}");
    }
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    assert!(matches!(
        AnswerHead::parse(&head, &Method::HEAD).expect("a head").framing,
        Framing::Length(0)
    ));
}

#[test]
fn only_an_http_1_1_connection_that_is_not_closed_persists() {
    let persists = |head: &str| parse(head).expect("a head").persistent;
    assert!(persists("HTTP/1.1 200 OK\r\n\r\n"));
    assert!(persists("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n"));
    assert!(!persists("HTTP/1.1 200 OK\r\nconnection: x\r\nConnection: a, CLOSE\r\n\r\n"));
    assert!(!persists("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n"));
}

#[test]
fn what_is_no_head_is_refused() {
    assert_eq!(parse("no HTTP at all\r\n\r\n").err(), Some(BadHead::NotHttp(httparse::Error::Version)));
    assert_eq!(parse("\r\n").err(), Some(BadHead::Cut));
    assert!(parse("HTTP/2 200 OK\r\n\r\n").is_err());
    assert_eq!(parse("HTTP/1.1 099 X\r\n\r\n").err(), Some(BadHead::NoStatus));
    let many = (0..=MAX_HEADERS).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    assert_eq!(framing(&many).err(), Some(BadHead::NotHttp(httparse::Error::TooManyHeaders)));
}

#[test]
fn the_end_is_found_however_the_head_is_split() {
    for text in ["HTTP/1.1 200 OK\r\nx: 1\r\n\r\nbody\r\n\r\n", "HTTP/1.1 200 OK\nx: 1\n\nbody\r\n\r\n"] {
        let expected = text.find("body").unwrap();
        for split in 0..text.len() {
            let mut end = HeadEnd::default();
            let early = end.find(&text.as_bytes()[..split]).unwrap();
            assert_eq!(early, (split >= expected).then_some(expected), "split at {split}");
            if early.is_none() {
                assert_eq!(end.find(text.as_bytes()).unwrap(), Some(expected), "split at {split}");
            }
        }
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let endless = b"HTTP/1.1 200 OK\r\nx: "
        .iter()
        .copied()
        .chain(std::iter::repeat_n(b'x', MAX_HEAD))
        .collect::<Vec<_>>();
    assert_eq!(HeadEnd::default().find(&endless), Err(BadHead::TooLarge));
    let large = [&endless[..], b"\r\n\r\n"].concat();
    assert_eq!(HeadEnd::default().find(&large), Err(BadHead::TooLarge));
}
