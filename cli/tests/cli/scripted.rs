//! A server that answers one connection after another with the very bytes that a test gives it, and tells what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use crate::process::DEADLINE;

/// What a connection gets.
pub(crate) enum Answer {
    /// These bytes, then the end.
    Bytes(String),
    /// These bytes, then nothing more and no end.
    Stall(String),
}

/// An answer of a status, further header lines, and a body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Bytes(format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

/// A JSON document.
pub(crate) fn json(status: u16, body: &str) -> Answer {
    answer(status, "content-type: application/json\r\n", body)
}

/// A stream of events up to the end of the connection.
pub(crate) fn events(events: &[&str]) -> Answer {
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Answer::Bytes(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}"
    ))
}

/// What a connection asked.
#[derive(Debug)]
pub(crate) struct Asked {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// All header lines, names in lower case.
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// The server; it ends with its last answer.
pub(crate) struct Scripted {
    pub(crate) url: String,
    asked: Receiver<Asked>,
}

impl Scripted {
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers: Vec<_> = answers.into_iter().collect();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            let mut stalled = Vec::new();
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let told = tell.send(read(&stream));
                match answer {
                    // The client may be gone already; then there is nothing to tell.
                    Answer::Bytes(bytes) => drop(stream.write_all(bytes.as_bytes())),
                    Answer::Stall(bytes) => {
                        let _ = stream.write_all(bytes.as_bytes());
                        stalled.push(stream);
                    }
                }
                if told.is_err() {
                    return;
                }
            }
            // Stalled connections stay open until the client has gone.
            for mut stream in stalled {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        Self { url, asked }
    }

    /// What the next connection asked.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(DEADLINE).expect("another request")
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = String::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() == 0 || header == "\r\n" {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
        headers += &format!("{}:{value}", name.to_ascii_lowercase());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Asked {
        line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    }
}
