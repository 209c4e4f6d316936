//! Finds the `usage` object in JSON that arrives in chunks, without holding the document: only the object itself is kept, within a bound.
//! It refuses to validate the document: bytes that are no JSON simply yield nothing.

use memchr::memchr2;

use crate::Usage;

/// The largest `usage` object that is read.
pub(crate) const CAPTURE_BYTES: usize = 64 * 1024;

/// An incremental search for the object under a path of names, which must be written without escapes (no provider escapes them).
/// If it stands more than once, the last readable one counts.
#[derive(Debug)]
pub(crate) struct Finder {
    path: &'static [&'static str],
    place: Place,
    /// Open brackets.
    depth: u64,
    /// How many names of the path are open. The object in which the next name is looked for is the one at depth `entered + 1`.
    entered: usize,
    /// In that object: the next string is a name.
    name_next: bool,
    /// In that object: the name was the one looked for, and its value has not come yet.
    value_next: bool,
    capture: Option<Capture>,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the outermost object.
    Before,
    /// Outside of strings.
    Between,
    /// In a string; `name` says how much of the name looked for it has matched, if it is a name and still matches.
    Text { name: Option<usize>, escaped: bool },
    /// Behind the outermost object.
    Behind,
    /// This is no JSON object.
    Lost,
}

#[derive(Debug)]
struct Capture {
    held: Vec<u8>,
    /// The depth around the object.
    around: u64,
    overlong: bool,
}

impl Finder {
    pub(crate) fn new(path: &'static [&'static str]) -> Self {
        Self {
            path,
            place: Place::Before,
            depth: 0,
            entered: 0,
            name_next: false,
            value_next: false,
            capture: None,
            usage: None,
        }
    }

    /// The usage in a document that is at hand whole.
    pub(crate) fn find(path: &'static [&'static str], document: &[u8]) -> Option<Usage> {
        let mut finder = Self::new(path);
        finder.feed(document);
        finder.usage
    }

    /// What was found so far.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether nothing of the document has been read but perhaps white space.
    pub(crate) fn is_untouched(&self) -> bool {
        self.place == Place::Before
    }

    /// Whether the outermost object has ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.place == Place::Behind
    }

    /// Reads the next bytes of the document.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        let mut kept = 0; // what lies before it has been copied into the capture, if there is one
        while at < chunk.len() {
            match self.place {
                Place::Before => match chunk[at..].iter().position(|byte| !byte.is_ascii_whitespace()) {
                    None => at = chunk.len(),
                    Some(blank) if chunk[at + blank] == b'{' => {
                        at += blank + 1;
                        self.depth = 1;
                        self.name_next = true;
                        self.place = Place::Between;
                    }
                    Some(_) => self.place = Place::Lost,
                },
                Place::Text { name, escaped: true } => {
                    at += 1;
                    self.place = Place::Text { name, escaped: false };
                }
                Place::Text { name, escaped: false } => {
                    let end = memchr2(b'"', b'\\', &chunk[at..]).map_or(chunk.len(), |found| at + found);
                    let name = name.and_then(|matched| self.matches(matched, &chunk[at..end]));
                    self.place = match chunk.get(end) {
                        None => Place::Text { name, escaped: false },
                        Some(b'"') => {
                            self.value_next = name.is_some_and(|matched| matched == self.path[self.entered].len());
                            Place::Between
                        }
                        Some(_) => Place::Text { name: None, escaped: true },
                    };
                    at = end + 1;
                }
                Place::Between => {
                    let inside = self.is_inside();
                    let Some(skipped) = chunk[at..].iter().position(|byte| is_structure(*byte) && (inside || *byte != b',')) else {
                        break;
                    };
                    at += skipped;
                    if self.capture.is_none() {
                        kept = at;
                    }
                    let byte = chunk[at];
                    at += 1;
                    self.structure(byte);
                    if let Some(capture) = self.capture.take_if(|capture| capture.around == self.depth) {
                        self.usage = capture.end(&chunk[kept..at]).or(self.usage);
                    }
                }
                Place::Behind | Place::Lost => return,
            }
        }
        if let Some(capture) = &mut self.capture {
            capture.hold(&chunk[kept..]);
        }
    }

    /// How much of the name looked for has matched after this piece of a string.
    fn matches(&self, matched: usize, piece: &[u8]) -> Option<usize> {
        let name = self.path[self.entered].as_bytes();
        name.get(matched..)?.starts_with(piece).then_some(matched + piece.len())
    }

    /// Whether we are directly in the object in which the next name is looked for.
    fn is_inside(&self) -> bool {
        self.capture.is_none() && self.depth == self.entered as u64 + 1
    }

    fn structure(&mut self, byte: u8) {
        let inside = self.is_inside();
        match byte {
            b'"' => {
                let is_name = inside && self.name_next;
                if inside {
                    self.name_next = false;
                    self.value_next = false;
                }
                self.place = Place::Text {
                    name: is_name.then_some(0),
                    escaped: false,
                };
            }
            b'{' | b'[' => {
                if inside && std::mem::take(&mut self.value_next) && byte == b'{' {
                    if self.entered + 1 == self.path.len() {
                        self.capture = Some(Capture {
                            held: Vec::new(),
                            around: self.depth,
                            overlong: false,
                        });
                    } else {
                        self.entered += 1;
                        self.name_next = true;
                    }
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth -= 1;
                if inside {
                    self.name_next = false;
                    self.value_next = false;
                    self.entered = self.entered.saturating_sub(1);
                }
                if self.depth == 0 {
                    self.place = Place::Behind;
                }
            }
            // Commas elsewhere never come here.
            b',' => {
                self.name_next = true;
                self.value_next = false;
            }
            _ => {}
        }
    }
}

impl Capture {
    fn hold(&mut self, bytes: &[u8]) {
        self.overlong |= self.held.len() + bytes.len() > CAPTURE_BYTES;
        if !self.overlong {
            self.held.extend_from_slice(bytes);
        }
    }

    fn end(mut self, bytes: &[u8]) -> Option<Usage> {
        if self.held.is_empty() && bytes.len() <= CAPTURE_BYTES {
            return Usage::read(bytes);
        }
        self.hold(bytes);
        if self.overlong { None } else { Usage::read(&self.held) }
    }
}

fn is_structure(byte: u8) -> bool {
    matches!(byte, b'"' | b',' | b'{' | b'}' | b'[' | b']')
}
