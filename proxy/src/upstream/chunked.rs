//! The chunked coding of an answer (RFC 9112 §7.1), read strictly: where a lenient reader and another one might disagree, the answer breaks off.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// The longest line of a chunk's size with its extensions, in bytes.
const MAX_LINE: usize = 4 << 10;
/// All trailers together, in bytes.
const MAX_TRAILERS: usize = 16 << 10;
/// Hexadecimal digits of a size that fit into 64 bits.
const MAX_DIGITS: usize = 16;

/// Where a reader stands.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    trailers: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    /// The CRLF behind a chunk's data.
    DataEnd,
    Trailers,
    End,
}

/// What the bytes at hand come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Piece(Bytes),
    End,
    /// More must be read.
    More,
}

/// The coding is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadChunk {
    #[error("a chunk's size is no hexadecimal number")]
    Size,
    #[error("a line of the chunked coding does not end in CRLF")]
    LineEnd,
    #[error("a line of the chunked coding is too long")]
    TooLong,
    #[error("a chunk is longer than its size")]
    Overlong,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size,
            trailers: 0,
        }
    }

    /// The next piece of data in `input`. If the end lies right behind it, it is noticed at once.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Next, BadChunk> {
        self.advance(input)?;
        match &mut self.state {
            State::End => Ok(Next::End),
            State::Data(left) if !input.is_empty() => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                let piece = input.split_to(here).freeze();
                if *left == 0 {
                    self.state = State::DataEnd;
                    // What is wrong behind the piece is found again, and told, when the next one is asked for.
                    let _ = self.advance(input);
                }
                Ok(Next::Piece(piece))
            }
            _ => Ok(Next::More),
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// Steps over everything that is no data, as far as it is there.
    fn advance(&mut self, input: &mut BytesMut) -> Result<(), BadChunk> {
        loop {
            match self.state {
                State::Data(_) | State::End => return Ok(()),
                State::DataEnd => match input.get(..2) {
                    Some(b"\r\n") => {
                        drop(input.split_to(2));
                        self.state = State::Size;
                    }
                    Some(_) => return Err(BadChunk::Overlong),
                    None if input.first().is_some_and(|byte| *byte != b'\r') => return Err(BadChunk::Overlong),
                    None => return Ok(()),
                },
                State::Size => {
                    let Some(line) = line(input, MAX_LINE)? else { return Ok(()) };
                    self.state = match size(&input[..line])? {
                        0 => State::Trailers,
                        size => State::Data(size),
                    };
                    drop(input.split_to(line + 2));
                }
                State::Trailers => {
                    let Some(line) = line(input, MAX_TRAILERS)? else { return Ok(()) };
                    drop(input.split_to(line + 2));
                    self.trailers += line + 2;
                    if line == 0 {
                        self.state = State::End;
                    } else if self.trailers > MAX_TRAILERS {
                        return Err(BadChunk::TooLong);
                    }
                }
            }
        }
    }
}

/// The length of the line that `input` begins with, without its CRLF.
fn line(input: &[u8], most: usize) -> Result<Option<usize>, BadChunk> {
    let within = &input[..input.len().min(most)];
    let Some(end) = memchr(b'\n', within) else {
        return if within.len() == most { Err(BadChunk::TooLong) } else { Ok(None) };
    };
    // Exactly one CR, and right before the LF.
    match memchr(b'\r', &within[..end]) {
        Some(cr) if cr + 1 == end => Ok(Some(cr)),
        _ => Err(BadChunk::LineEnd),
    }
}

/// The number that a chunk's line begins with; extensions are passed over.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let number = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if number.is_empty() || number.len() > MAX_DIGITS {
        return Err(BadChunk::Size);
    }
    number.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(BadChunk::Size)?;
        Ok(size << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `wire` in pieces of `step` bytes: the data, whether the end came, and what was left.
    fn read(wire: &[u8], step: usize) -> Result<(Vec<u8>, bool, Vec<u8>), BadChunk> {
        let (mut chunked, mut input, mut data) = (Chunked::new(), BytesMut::new(), Vec::new());
        let mut coming = wire.chunks(step);
        loop {
            match chunked.next(&mut input)? {
                Next::Piece(piece) => data.extend_from_slice(&piece),
                Next::End => {
                    let rest = [&input[..], &coming.collect::<Vec<_>>().concat()].concat();
                    return Ok((data, true, rest));
                }
                Next::More => match coming.next() {
                    Some(more) => input.extend_from_slice(more),
                    None => return Ok((data, false, input.to_vec())),
                },
            }
        }
    }

    #[test]
    fn however_it_is_split_the_data_is_the_same() {
        let wire = b"5\r\nhello\r\n00A;name=\"v\"\r\n, world!!\n\r\n0\r\nx-trailer: 1\r\ny: 2\r\n\r\nHTTP/1.1";
        for step in 1..=wire.len() {
            assert_eq!(
                read(wire, step),
                Ok((b"hello, world!!\n".to_vec(), true, b"HTTP/1.1".to_vec())),
                "pieces of {step}"
            );
        }
    }

    #[test]
    fn an_end_that_is_here_is_known_with_the_last_piece() {
        let (mut chunked, mut input) = (Chunked::new(), BytesMut::from(&b"2\r\nhi\r\n0\r\n\r\n"[..]));
        assert_eq!(chunked.next(&mut input), Ok(Next::Piece(Bytes::from_static(b"hi"))));
        assert!(chunked.is_at_end() && input.is_empty());
    }

    #[test]
    fn what_two_readers_might_read_differently_breaks_off() {
        for (wire, why) in [
            (&b"zz\r\n"[..], BadChunk::Size),
            (b"\r\n", BadChunk::Size),
            (b"-1\r\n", BadChunk::Size),
            (b"+1\r\n", BadChunk::Size),
            (b"0x1\r\n", BadChunk::Size),
            (b" 5\r\nhello\r\n", BadChunk::Size),
            (b"5 5\r\nhello\r\n", BadChunk::Size),
            (b"1_0\r\n", BadChunk::Size),
            (b"10000000000000000\r\n", BadChunk::Size),
            (b"00000000000000005\r\n", BadChunk::Size),
            (b"5\nhello\r\n", BadChunk::LineEnd),
            (b"5\r\r\nhello\r\n", BadChunk::LineEnd),
            (b"5;a=\rb\r\nhello\r\n", BadChunk::LineEnd),
            (b"5\r\nhello\n0\r\n\r\n", BadChunk::Overlong),
            (b"5\r\nhello!\r\n0\r\n\r\n", BadChunk::Overlong),
            (b"5\r\nhello\rx", BadChunk::Overlong),
            (b"0\r\nx: 1\n\r\n", BadChunk::LineEnd),
        ] {
            for step in 1..=wire.len() {
                assert_eq!(read(wire, step), Err(why), "{:?} in pieces of {step}", String::from_utf8_lossy(wire));
            }
        }
    }

    #[test]
    fn lines_and_trailers_without_end_break_off() {
        let long = [&b"5;"[..], &b"x".repeat(MAX_LINE)].concat();
        assert_eq!(read(&long, 1000), Err(BadChunk::TooLong));
        let many = [&b"0\r\n"[..], &b"x: 1\r\n".repeat(MAX_TRAILERS)].concat();
        assert_eq!(read(&many, 1000), Err(BadChunk::TooLong));
    }

    #[test]
    fn the_largest_size_is_no_overflow() {
        assert_eq!(size(b"ffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(read(b"ffffffffffffffff\r\nabc", 4), Ok((b"abc".to_vec(), false, Vec::new())));
    }

    #[test]
    fn a_cut_answer_is_never_at_its_end() {
        let wire = b"5\r\nhello\r\n0\r\nx: 1\r\n\r\n";
        for cut in 0..wire.len() {
            assert!(!read(&wire[..cut], 3).expect("nothing is wrong with it").1, "cut at {cut}");
        }
    }
}
