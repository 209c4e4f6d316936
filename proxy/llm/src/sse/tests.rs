//! The codec: the examples of the specification, bounds, and any split.

use proptest::prelude::*;

use super::*;

/// What a scanner says of chunks, parts put together: name, data, and whether it came in parts.
type Seen = Vec<(String, String, bool)>;

fn scan<'c>(bound: usize, chunks: impl IntoIterator<Item = &'c [u8]>) -> (Seen, Scanner) {
    let mut scanner = Scanner::new(bound);
    let mut seen = Seen::new();
    let mut parts: Option<Vec<u8>> = None;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for chunk in chunks {
        scanner.scan(chunk, |piece| match piece {
            Piece::Event { name, data } => {
                assert!(parts.is_none());
                seen.push((text(name), text(data), false));
            }
            Piece::Part(part) => {
                assert!(!part.is_empty());
                parts.get_or_insert_default().extend_from_slice(part);
            }
            Piece::End { name } => {
                let data = parts.take().expect("parts before their end");
                assert!(data.len() > bound);
                seen.push((text(name), text(&data), true));
            }
        });
        assert!(scanner.held.len() <= bound);
    }
    (seen, scanner)
}

fn events(stream: &str) -> Vec<(String, String)> {
    let (seen, _) = scan(1024, [stream.as_bytes()]);
    seen.into_iter().map(|(name, data, _)| (name, data)).collect()
}

fn data(stream: &str) -> Vec<String> {
    events(stream).into_iter().map(|(_, data)| data).collect()
}

#[test]
fn all_three_line_ends_are_understood() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = ["event: a", "data: 1", "data: 2", "", "data: 3", "", ""].join(end);
        assert_eq!(events(&stream), [("a".into(), "1\n2".into()), (String::new(), "3".into())], "{end:?}");
    }
}

#[test]
fn comments_unknown_fields_and_a_byte_order_mark_are_passed_over() {
    assert_eq!(
        data("\u{feff}: keep-alive\n\nid: 7\nretry: 10\ndatum: x\ndata : x\nDATA: x\ndatas: x\ndata: 1\n\n:\n\n"),
        ["1"]
    );
}

#[test]
fn a_byte_order_mark_counts_at_the_very_beginning_only() {
    assert_eq!(data("data: 1\n\n\u{feff}data: 2\n\ndata: 3\n\n"), ["1", "3"]);
    let (seen, _) = scan(10, [&b"\xef\xbbdata: 1\n\ndata: 2\n\n"[..]]);
    assert_eq!(seen, [(String::new(), "2".into(), false)]);
}

#[test]
fn one_space_behind_the_colon_is_dropped() {
    assert_eq!(
        data("data:1\n\ndata: 2\n\ndata:  3 \n\ndata\n\ndata:\n\ndata: a:b\n\n"),
        ["1", "2", " 3 ", "", "", "a:b"]
    );
}

#[test]
fn the_specifications_examples_are_read_as_it_says() {
    assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
    assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n"]);
}

#[test]
fn an_event_without_data_is_none_and_its_name_does_not_stick() {
    assert_eq!(events("event: a\n\ndata: 1\n\n"), [(String::new(), "1".into())]);
}

#[test]
fn the_last_name_counts_and_a_long_one_is_cut() {
    let long = "x".repeat(100);
    assert_eq!(events(&format!("event: a\nevent: {long}\ndata: 1\n\n")), [("x".repeat(64), "1".into())]);
    assert_eq!(events("event: a\nevent\ndata: 1\n\n"), [(String::new(), "1".into())]);
}

#[test]
fn an_event_that_has_not_ended_is_pending() {
    let (seen, scanner) = scan(64, [&b"data: 1\n\nevent: e\ndata: {\"us"[..], b"age\":1}"]);
    assert_eq!(seen.len(), 1);
    assert_eq!(scanner.pending(), Some((&b"e"[..], &b"{\"usage\":1}"[..])));
    assert_eq!(scan(64, [&b"data: 1\n\n"[..]]).1.pending(), None);
}

#[test]
fn what_exceeds_the_bound_passes_in_parts_and_is_counted() {
    let huge = "x".repeat(10_000_000);
    let stream = format!("event: e\ndata: {huge}\n\ndata: 1\n\n");
    let (seen, scanner) = scan(16, stream.as_bytes().chunks(1460));
    assert_eq!(seen, [("e".into(), huge, true), (String::new(), "1".into(), false)]);
    assert_eq!(scanner.overlong(), 1);
    assert!(scanner.held.capacity() <= 64);
}

#[test]
fn a_hundred_megabytes_without_a_line_end_cost_no_memory() {
    let mut scanner = Scanner::new(1024);
    let chunk = vec![b'x'; 1 << 20];
    scanner.scan(b"data: ", |_| {});
    let mut passed = 0;
    for _ in 0..100 {
        scanner.scan(&chunk, |piece| {
            if let Piece::Part(part) = piece {
                passed += part.len()
            }
        });
    }
    assert_eq!(passed, 100 << 20);
    assert!(scanner.held.capacity() <= 2048);
}

#[test]
fn what_is_written_is_read_again() {
    let mut stream = Vec::new();
    write_event(&mut stream, None, b"{\"a\":1}");
    write_event(&mut stream, Some("response.created"), b"one\ntwo\rthree");
    write_event(&mut stream, None, b"");
    let written = String::from_utf8(stream).unwrap();
    assert_eq!(
        written,
        "data: {\"a\":1}\n\nevent: response.created\ndata: one\ndata: two\ndata: three\n\ndata: \n\n"
    );
    let expected = [
        (String::new(), "{\"a\":1}".into()),
        ("response.created".into(), "one\ntwo\nthree".into()),
        (String::new(), String::new()),
    ];
    assert_eq!(events(&written), expected);
}

/// A reader that has the whole stream and all the memory it wants, written along the specification.
fn by_the_book(bound: usize, stream: &[u8]) -> Seen {
    let stream = stream.strip_prefix(BOM).unwrap_or(stream);
    let mut lines = vec![Vec::new()];
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' {
            bytes.next_if_eq(&b'\n');
        }
        match byte {
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => lines.last_mut().unwrap().push(byte),
        }
    }
    lines.pop(); // a line counts once it has ended
    let mut seen = Seen::new();
    let (mut name, mut data) = (Vec::new(), Vec::<Vec<u8>>::new());
    for line in lines {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => data.push(value.to_vec()),
            b"event" => name = value[..value.len().min(NAME_BYTES)].to_vec(),
            b"" if line.is_empty() => {
                let data = std::mem::take(&mut data);
                let name = std::mem::take(&mut name);
                if !data.is_empty() {
                    let joined = data.join(&b'\n');
                    seen.push((
                        String::from_utf8_lossy(&name).into(),
                        String::from_utf8_lossy(&joined).into(),
                        joined.len() > bound,
                    ));
                }
            }
            _ => {}
        }
    }
    seen
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "data: ",
        "data:",
        "data",
        "event: ",
        "event",
        "id: 1",
        ":",
        " ",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "x",
        "hello world",
        "{\"a\":\"b: c\"}",
        "[DONE]",
        "\u{feff}",
        "ä",
        "dat",
        "a: b",
        "eventually: ",
    ]);
    let bytes = prop::collection::vec(prop::sample::select(b"data: event\n\r\xef\xbb\xbf".to_vec()), 0..40);
    let tokens = prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat().into_bytes());
    prop_oneof![4 => tokens, 1 => bytes]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_split_anywhere_is_read_as_the_specification_says(stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        bound in prop_oneof![0usize..20, Just(4096)]) {
        let expected = by_the_book(bound, &stream);
        let (whole, scanner) = scan(bound, [&stream[..]]);
        prop_assert_eq!(&whole, &expected);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let (split, split_scanner) = scan(bound, cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]));
        prop_assert_eq!(&split, &expected);
        prop_assert_eq!(split_scanner.pending(), scanner.pending());
        prop_assert_eq!(split_scanner.overlong(), scanner.overlong());
        let (bytewise, _) = scan(bound, stream.chunks(1));
        prop_assert_eq!(&bytewise, &expected);
    }
}
