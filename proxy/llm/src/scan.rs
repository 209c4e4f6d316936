//! A cursor over JSON text that finds where members, strings and values begin and end.
//! It builds no values, and refuses to judge them: numbers, literals and escapes are only read where somebody asks for them.

use std::borrow::Cow;
use std::ops::Range;
use std::str::CharIndices;

use memchr::memchr2;

/// The deepest nesting that is accepted; the outermost object is level 1.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Why the text cannot be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON, from this byte on.
    Syntax(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// A position in JSON text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of the text.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte offset.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The part of the text that a range of offsets names.
    pub(crate) fn slice(&self, range: &Range<usize>) -> &'a str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// The next byte that is not white space; the cursor stands on it.
    pub(crate) fn next_token(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                token => return Some(*token),
            }
        }
        None
    }

    /// Steps over one byte.
    pub(crate) fn step(&mut self) {
        self.at += 1;
    }

    /// A syntax fault at the present position.
    pub(crate) fn fault(&self) -> Fault {
        Fault::Syntax(self.at)
    }

    /// Steps into an object and calls `member` for each of its members with the raw key and the cursor on the first byte of the value;
    /// `member` must step over the value. The cursor ends behind the closing brace.
    pub(crate) fn object<E: From<Fault>>(&mut self, mut member: impl FnMut(&mut Self, Key<'a>) -> Result<(), E>) -> Result<(), E> {
        if self.next_token() != Some(b'{') {
            return Err(self.fault().into());
        }
        self.step();
        if self.next_token() == Some(b'}') {
            self.step();
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            match self.next_token() {
                Some(b',') => self.step(),
                Some(b'}') => {
                    self.step();
                    return Ok(());
                }
                _ => return Err(self.fault().into()),
            }
        }
    }

    /// Steps over a member's name, which begins here, and its colon; the cursor stands on the value then.
    fn key(&mut self) -> Result<Key<'a>, Fault> {
        if self.next_token() != Some(b'"') {
            return Err(self.fault());
        }
        let start = self.at + 1;
        let (raw, plain) = self.string()?;
        if self.next_token() != Some(b':') {
            return Err(self.fault());
        }
        self.step();
        self.next_token();
        Ok(Key {
            raw: self.slice(&raw),
            start,
            plain,
        })
    }

    /// Steps over a whole member.
    pub(crate) fn member(&mut self) -> Result<(), Fault> {
        self.key()?;
        self.value(1).map(drop)
    }

    /// Steps over the value that begins here, at nesting level `depth` of the object around it, and returns where it lies.
    pub(crate) fn value(&mut self, depth: u32) -> Result<Range<usize>, Fault> {
        let start = self.at;
        match self.text.as_bytes().get(self.at).map(|byte| class(*byte)) {
            Some(Class::Quote) => {
                self.string()?;
            }
            Some(Class::Open) => self.container(depth)?,
            Some(Class::Scalar) => {
                let rest = self.text.as_bytes().get(start..).unwrap_or_default();
                self.at += rest.iter().position(|byte| class(*byte) != Class::Scalar).unwrap_or(rest.len());
            }
            _ => return Err(self.fault()),
        }
        Ok(start..self.at)
    }

    /// Steps over the string whose opening quote is here and returns where its content lies, and whether it is known to hold nothing that must be
    /// unescaped or refused.
    fn string(&mut self) -> Result<(Range<usize>, bool), Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        // Names and short values, which are most strings: eight bytes at a time, without a call.
        for _ in 0..SHORT {
            let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
                break;
            };
            let special = specials(u64::from_le_bytes(*word));
            at += (special.trailing_zeros() / 8) as usize; // 8 if there is none
            if special == 0 {
                continue;
            }
            if bytes.get(at) == Some(&b'"') {
                self.at = at + 1;
                return Ok((start..at, true));
            }
            break;
        }
        loop {
            let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
                return Err(Fault::Syntax(bytes.len()));
            };
            at += found;
            if bytes.get(at) == Some(&b'"') {
                self.at = at + 1;
                return Ok((start..at, false));
            }
            at += 2;
        }
    }

    /// Steps over an object or array: brackets and strings must be balanced, the rest is only looked over.
    fn container(&mut self, depth: u32) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        let mut objects: u128 = 0; // one bit per open bracket, the innermost lowest: whether it is a brace
        let mut open: u32 = 0;
        loop {
            let Some(byte) = bytes.get(self.at) else {
                return Err(self.fault());
            };
            match class(*byte) {
                Class::Scalar | Class::Separator => self.at += 1,
                Class::Quote => {
                    self.string()?;
                }
                Class::Open => {
                    if depth + open >= MAX_DEPTH {
                        return Err(Fault::TooDeep);
                    }
                    objects = objects << 1 | u128::from(*byte == b'{');
                    open += 1;
                    self.at += 1;
                }
                Class::Close => {
                    if (objects & 1 == 1) != (*byte == b'}') {
                        return Err(self.fault());
                    }
                    objects >>= 1;
                    open -= 1;
                    self.at += 1;
                    if open == 0 {
                        return Ok(());
                    }
                }
                Class::Alien => return Err(self.fault()),
            }
        }
    }
}

/// Words of eight bytes that are looked at before the search for long strings is called.
const SHORT: usize = 4;

/// The high bit of each byte of a little-endian word that is a quote, a backslash or a control character: the lowest one that is set is right,
/// those above it may not be.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & HIGH
}

/// A member's name as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    raw: &'a str,
    start: usize,
    /// Known to need no unescaping.
    plain: bool,
}

impl<'a> Key<'a> {
    /// The name itself.
    pub(crate) fn name(self) -> Result<Cow<'a, str>, Fault> {
        if self.plain {
            return Ok(Cow::Borrowed(self.raw));
        }
        unescape(self.raw, self.start)
    }
}

/// The content of a string whose raw text begins at offset `start`. Refused: what RFC 8259 §7 does not allow (bare control characters, unknown
/// escapes), and surrogates without their other half, which no two parsers read alike.
pub(crate) fn unescape(raw: &str, start: usize) -> Result<Cow<'_, str>, Fault> {
    let strange = |byte: u8| byte == b'\\' || byte < 0x20;
    // Without an early exit this is done many bytes at once, and nearly every name is plain.
    if !raw.bytes().fold(false, |found, byte| found | strange(byte)) {
        return Ok(Cow::Borrowed(raw));
    }
    let first = raw.bytes().position(strange).unwrap_or(raw.len());
    let mut out = String::with_capacity(raw.len());
    out.push_str(raw.get(..first).unwrap_or_default());
    let mut chars = raw.get(first..).unwrap_or_default().char_indices();
    while let Some((at, plain)) = chars.next() {
        let fault = Fault::Syntax(start + first + at);
        if plain < ' ' {
            return Err(fault);
        }
        if plain != '\\' {
            out.push(plain);
            continue;
        }
        out.push(match chars.next().map(|(_, escaped)| escaped) {
            Some('u') => match code_unit(&mut chars).ok_or(fault)? {
                high @ 0xd800..=0xdbff => {
                    let mut next = || chars.next().map(|next| next.1);
                    if (next(), next()) != (Some('\\'), Some('u')) {
                        return Err(fault);
                    }
                    let low = code_unit(&mut chars).filter(|low| (0xdc00..=0xdfff).contains(low)).ok_or(fault)?;
                    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(fault)?
                }
                unit => char::from_u32(unit).ok_or(fault)?,
            },
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(itself @ ('"' | '\\' | '/')) => itself,
            _ => return Err(fault),
        });
    }
    Ok(Cow::Owned(out))
}

/// The four hexadecimal digits of a `\u` escape.
fn code_unit(chars: &mut CharIndices<'_>) -> Option<u32> {
    (0..4).try_fold(0, |unit, _| Some(unit << 4 | chars.next()?.1.to_digit(16)?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// What numbers and literals are made of.
    Scalar,
    /// White space, comma, colon.
    Separator,
    Quote,
    Open,
    Close,
    /// Never seen in JSON outside of strings.
    Alien,
}

fn class(byte: u8) -> Class {
    static CLASSES: [Class; 256] = classes();
    CLASSES[usize::from(byte)]
}

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Alien; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' => Class::Scalar,
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => Class::Separator,
            b'"' => Class::Quote,
            b'{' | b'[' => Class::Open,
            b'}' | b']' => Class::Close,
            _ => Class::Alien,
        };
        byte += 1;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`Cursor::string`] must find, byte by byte.
    fn exactly(text: &str) -> Option<Range<usize>> {
        let bytes = text.as_bytes();
        let mut at = 1;
        loop {
            match bytes.get(at)? {
                b'"' => return Some(1..at),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }

    #[test]
    fn a_string_ends_at_its_quote_wherever_that_stands_and_plain_means_plain() {
        for length in 0..70 {
            for special in [
                "", "\"", "\\\"", "\\\\", "\u{1f}", "\u{1}", "\n", "ü", "\u{7f}", "\u{80}", " ", "!", "#", "[", "]",
            ] {
                for place in 0..=length {
                    let content = format!("{}{special}{}", "x".repeat(place), "y".repeat(length - place));
                    for text in [format!("\"{content}\""), format!("\"{content}\" , \"z\""), format!("\"{content}")] {
                        let mut cursor = Cursor::new(&text);
                        let found = cursor.string();
                        assert_eq!(found.clone().ok().map(|(range, _)| range), exactly(&text), "{text:?}");
                        if let Ok((range, plain)) = found {
                            assert_eq!(cursor.offset(), range.end + 1);
                            let strange = text[range].bytes().any(|byte| byte == b'\\' || byte < 0x20);
                            assert!(!(plain && strange), "{text:?}");
                        }
                    }
                }
            }
        }
    }
}
