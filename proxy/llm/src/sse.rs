//! The codec of server-sent events (WHATWG HTML §9.2): a scanner over bytes that arrive split anywhere, and a writer.
//! It refuses to know what the data means. The scanner copies nothing that arrives whole, and holds no more than its bound.

use memchr::memchr2;

/// Bytes of an event's name that are kept; the longest that OpenAI sends has 46.
const NAME_BYTES: usize = 64;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a [`Scanner`] finds. Names are empty where the event has none. Several `data` lines are joined by a line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole event.
    Event {
        /// The `event` field, cut to 64 bytes.
        name: &'a [u8],
        /// The `data` fields.
        data: &'a [u8],
    },
    /// A part of the data of an event beyond the bound, in order and not empty.
    Part(&'a [u8]),
    /// The end of the event that came in parts.
    End {
        /// The `event` field, cut to 64 bytes.
        name: &'a [u8],
    },
}

/// An incremental scanner. What it finds does not depend on how the bytes are split, save for where the parts of overlong data are cut.
#[derive(Debug)]
pub struct Scanner {
    bound: usize,
    state: State,
    /// The name of the field that is being read, as far as it is known.
    field: [u8; 6],
    field_len: usize,
    /// The present event.
    name: [u8; NAME_BYTES],
    name_len: usize,
    has_data: bool,
    held: Vec<u8>,
    in_parts: bool,
    after_cr: bool,
    bom: usize,
    overlong: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a field's name; at the beginning of a line while `field_len` is 0.
    Field,
    /// Behind the colon, where one space is dropped.
    Colon(Field),
    Value(Field),
    /// In a comment or an unknown field.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
}

impl Scanner {
    /// A scanner that holds at most `bound` bytes of an event's data; longer data is handed on in parts.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            bound,
            state: State::Field,
            field: [0; 6],
            field_len: 0,
            name: [0; NAME_BYTES],
            name_len: 0,
            has_data: false,
            held: Vec::new(),
            in_parts: false,
            after_cr: false,
            bom: 0,
            overlong: 0,
        }
    }

    /// Reads the next bytes of the stream.
    pub fn scan<'c>(&mut self, chunk: &'c [u8], mut found: impl FnMut(Piece<'_>)) {
        let mut rest = chunk;
        // The event's only line of data so far, if it lies whole in this chunk: no need to copy it.
        let mut line: Option<&'c [u8]> = None;
        // Whether the present value began in this chunk.
        let mut fresh = false;
        while let Some(first) = rest.first().copied() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            match self.state {
                State::Field => rest = self.read_field(rest, &mut line, &mut found),
                State::Colon(field) => {
                    rest = &rest[usize::from(first == b' ')..];
                    match field {
                        Field::Event => self.name_len = 0,
                        Field::Data => self.begin_data(&mut line, &mut found),
                    }
                    self.state = State::Value(field);
                    fresh = true;
                }
                State::Value(field) => {
                    let end = memchr2(b'\n', b'\r', rest);
                    let value = &rest[..end.unwrap_or(rest.len())];
                    match field {
                        Field::Event => self.push_name(value),
                        Field::Data if fresh && end.is_some() && !self.in_parts && self.held.is_empty() && value.len() <= self.bound => {
                            line = Some(value);
                        }
                        Field::Data => self.push_data(value, &mut found),
                    }
                    rest = &rest[value.len()..];
                    if end.is_some() {
                        rest = self.end_line(rest);
                    }
                }
                State::Ignored => {
                    rest = match memchr2(b'\n', b'\r', rest) {
                        Some(end) => self.end_line(&rest[end..]),
                        None => &[],
                    };
                }
            }
        }
        if let Some(line) = line {
            self.push_data(line, &mut found);
        }
    }

    /// The event that has not ended yet: name and data so far. `None` without data, or if the data came in parts.
    #[must_use]
    pub fn pending(&self) -> Option<(&[u8], &[u8])> {
        (self.has_data && !self.in_parts).then_some((&self.name[..self.name_len], &self.held))
    }

    /// How many events went beyond the bound.
    #[must_use]
    pub fn overlong(&self) -> u64 {
        self.overlong
    }

    /// Reads a field's name, or the empty line that ends an event.
    fn read_field<'c>(&mut self, rest: &'c [u8], line: &mut Option<&'c [u8]>, found: &mut impl FnMut(Piece<'_>)) -> &'c [u8] {
        if self.bom < BOM.len() {
            if rest[0] == BOM[self.bom] {
                self.bom += 1;
                return &rest[1..];
            }
            let broken = self.bom > 0;
            self.bom = BOM.len();
            if broken {
                self.state = State::Ignored; // what looked like a byte order mark began an unknown field
                return rest;
            }
        }
        let room = self.field.len() - self.field_len;
        let Some(end) = rest.iter().take(room).position(|byte| matches!(byte, b':' | b'\n' | b'\r')) else {
            let taken = rest.len().min(room);
            self.field[self.field_len..self.field_len + taken].copy_from_slice(&rest[..taken]);
            self.field_len += taken;
            if taken == room {
                self.state = State::Ignored; // longer than any field that we know
            }
            return &rest[taken..];
        };
        self.field[self.field_len..self.field_len + end].copy_from_slice(&rest[..end]);
        let field = match &self.field[..self.field_len + end] {
            b"data" => Some(Field::Data),
            b"event" => Some(Field::Event),
            _ => None,
        };
        let blank = self.field_len + end == 0;
        let rest = &rest[end..];
        if rest[0] == b':' {
            self.state = field.map_or(State::Ignored, State::Colon);
            return &rest[1..];
        }
        match field {
            Some(Field::Data) => self.begin_data(line, found),
            Some(Field::Event) => self.name_len = 0,
            None if blank => self.end_event(line.take(), found),
            None => {}
        }
        self.end_line(rest)
    }

    /// A further line of data: what came before it is closed by a line feed.
    fn begin_data(&mut self, line: &mut Option<&[u8]>, found: &mut impl FnMut(Piece<'_>)) {
        if let Some(line) = line.take() {
            self.push_data(line, found);
        }
        if self.has_data {
            self.push_data(b"\n", found);
        }
        self.has_data = true;
    }

    fn push_data(&mut self, data: &[u8], found: &mut impl FnMut(Piece<'_>)) {
        if !self.in_parts {
            if self.held.len() + data.len() <= self.bound {
                self.held.extend_from_slice(data);
                return;
            }
            self.in_parts = true;
            self.overlong += 1;
            if !self.held.is_empty() {
                found(Piece::Part(&self.held));
            }
            self.held.clear();
        }
        if !data.is_empty() {
            found(Piece::Part(data));
        }
    }

    fn push_name(&mut self, name: &[u8]) {
        let taken = name.len().min(NAME_BYTES - self.name_len);
        self.name[self.name_len..self.name_len + taken].copy_from_slice(&name[..taken]);
        self.name_len += taken;
    }

    /// Steps over the line's end, which `rest` begins with; the line feed behind a carriage return is dropped when it comes.
    fn end_line<'c>(&mut self, rest: &'c [u8]) -> &'c [u8] {
        self.after_cr = rest[0] == b'\r';
        self.state = State::Field;
        self.field_len = 0;
        &rest[1..]
    }

    fn end_event(&mut self, line: Option<&[u8]>, found: &mut impl FnMut(Piece<'_>)) {
        let name = &self.name[..self.name_len];
        if self.in_parts {
            found(Piece::End { name });
        } else if self.has_data {
            found(Piece::Event {
                name,
                data: line.unwrap_or(&self.held),
            });
        }
        self.held.clear();
        self.name_len = 0;
        self.has_data = false;
        self.in_parts = false;
    }
}

/// Appends an event. Each line break in `data`, be it a line feed or a carriage return, begins a further `data` line.
pub fn write_event(out: &mut Vec<u8>, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
