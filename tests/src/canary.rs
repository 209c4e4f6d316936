//! The leak scanner: looks for secret values in every spelling that logging, storing or quoting could give them.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Where a secret was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// The file, or the name that was given to a stream of bytes.
    pub place: String,
    /// The byte offset.
    pub offset: usize,
    /// Which secret (its name, never its value).
    pub secret: String,
    /// Which spelling.
    pub form: &'static str,
}

struct Needle {
    secret: String,
    form: &'static str,
    bytes: Vec<u8>,
}

/// A set of secrets in all their spellings.
pub struct Scanner {
    needles: Vec<Needle>,
    /// Needle indices by their first two bytes, so that a pass over the data looks at each position once.
    by_start: Vec<Vec<usize>>,
    except: Vec<PathBuf>,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner")
            .field("needles", &self.needles.len())
            .field("except", &self.except)
            .finish()
    }
}

impl Scanner {
    /// A scanner for (name, value) pairs.
    ///
    /// # Panics
    /// If a value is shorter than 8 bytes: its spellings would be found by chance.
    #[must_use]
    pub fn new(secrets: &[(&str, &str)]) -> Self {
        let mut needles: Vec<Needle> = Vec::new();
        for (secret, value) in secrets {
            assert!(value.len() >= 8, "{secret} is too short to be looked for");
            for (form, bytes) in spellings(value.as_bytes()) {
                if !needles.iter().any(|needle| needle.bytes == bytes) {
                    needles.push(Needle {
                        secret: (*secret).to_owned(),
                        form,
                        bytes,
                    });
                }
            }
        }
        let mut by_start = vec![Vec::new(); 1 << 16];
        for (index, needle) in needles.iter().enumerate() {
            by_start[start(&needle.bytes)].push(index);
        }
        Self {
            needles,
            by_start,
            except: Vec::new(),
        }
    }

    /// Leaves a file, or everything below a folder, out.
    #[must_use]
    pub fn except(mut self, path: impl Into<PathBuf>) -> Self {
        self.except.push(path.into());
        self
    }

    /// Looks through bytes; `place` names them in what is found.
    #[must_use]
    pub fn bytes(&self, place: &str, bytes: &[u8]) -> Vec<Find> {
        let mut finds = Vec::new();
        for offset in 0..bytes.len().saturating_sub(1) {
            for needle in self.by_start[start(&bytes[offset..])].iter().map(|index| &self.needles[*index]) {
                if bytes[offset..].starts_with(&needle.bytes) {
                    finds.push(Find {
                        place: place.to_owned(),
                        offset,
                        secret: needle.secret.clone(),
                        form: needle.form,
                    });
                }
            }
        }
        finds
    }

    /// Looks through a file, or every file below a folder: contents and names.
    ///
    /// # Panics
    /// If something cannot be read: what was not looked at is not clean.
    #[must_use]
    pub fn path(&self, path: &Path) -> Vec<Find> {
        if self.except.iter().any(|except| path.starts_with(except)) {
            return Vec::new();
        }
        let place = path.display().to_string();
        let mut finds = self.bytes(&format!("name of {place}"), path.as_os_str().as_encoded_bytes());
        let kind = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{place}: {error}")).file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(path).unwrap_or_else(|error| panic!("{place}: {error}")) {
                finds.extend(self.path(&entry.unwrap_or_else(|error| panic!("{place}: {error}")).path()));
            }
        } else if kind.is_file() {
            let bytes = fs::read(path).unwrap_or_else(|error| panic!("{place}: {error}"));
            finds.extend(self.bytes(&place, &bytes));
        }
        finds
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// Every spelling that is looked for, with its name. A spelling that equals another one is found under the first name.
fn spellings(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8_lossy(value);
    let each = |format: fn(u8) -> String, between: &str| value.iter().map(|byte| format(*byte)).collect::<Vec<_>>().join(between).into_bytes();
    let json = serde_json::Value::from(text.as_ref()).to_string();
    let json = &json[1..json.len() - 1];
    let mut spellings = vec![
        ("raw", value.to_vec()),
        ("hex", each(|byte| format!("{byte:02x}"), "")),
        ("HEX", each(|byte| format!("{byte:02X}"), "")),
        ("hex with spaces", each(|byte| format!("{byte:02x}"), " ")),
        ("hex with colons", each(|byte| format!("{byte:02x}"), ":")),
        ("URL-escaped", url(value, false, false)),
        ("URL-escaped in lower case", url(value, false, true)),
        ("URL-escaped throughout", url(value, true, false)),
        ("URL-escaped throughout in lower case", url(value, true, true)),
        ("JSON-escaped", json.as_bytes().to_vec()),
        ("JSON-escaped with slashes", json.replace('/', "\\/").into_bytes()),
        ("JSON-escaped throughout", each(|byte| format!("\\u{byte:04x}"), "")),
        ("a list of numbers", each(|byte| byte.to_string(), ", ")),
        ("a JSON list of numbers", each(|byte| byte.to_string(), ",")),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ];
    for alignment in 0..3 {
        spellings.push(("base64", base64_core(value, alignment, |bytes| STANDARD_NO_PAD.encode(bytes))));
        spellings.push(("base64 for URLs", base64_core(value, alignment, |bytes| URL_SAFE_NO_PAD.encode(bytes))));
    }
    spellings
}

/// The base64 characters that depend on the value alone when `alignment` bytes of something else stand before it.
fn base64_core(value: &[u8], alignment: usize, encode: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let padded = [&[0; 2][..alignment], value].concat();
    let first = (alignment * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encode(&padded).as_bytes()[first..last].to_vec()
}

fn url(value: &[u8], all: bool, lower: bool) -> Vec<u8> {
    let escaped = value.iter().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' if !all => char::from(*byte).to_string(),
        _ if lower => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    /// Every character that some spelling has to escape, and bytes whose base64 differs between the alphabets.
    const SECRET: &str = "sk-canary/+\"\\&é?>~ÿÿ-0123456789";

    fn forms(bytes: &[u8]) -> Vec<&'static str> {
        Scanner::new(&[("canary", SECRET)])
            .bytes("here", bytes)
            .into_iter()
            .map(|find| find.form)
            .collect()
    }

    #[test]
    fn each_planted_spelling_is_found_where_it_stands() {
        let scanner = Scanner::new(&[("canary", SECRET)]);
        for (form, spelled) in spellings(SECRET.as_bytes()) {
            let planted = [b"before ".as_slice(), &spelled, b" after"].concat();
            let finds = scanner.bytes("here", &planted);
            assert!(finds.iter().any(|find| find.offset == 7), "{form}: {finds:?}");
        }
    }

    #[test]
    fn what_other_programs_write_is_found() {
        let in_json = serde_json::json!({"authorization": format!("Bearer {SECRET}")}).to_string();
        assert_eq!(forms(in_json.as_bytes()), ["JSON-escaped"]);
        assert_eq!(forms(format!("{:?}", format!("Bearer {SECRET}")).as_bytes()), ["JSON-escaped"]);
        assert_eq!(forms(format!("{:?}", SECRET.as_bytes()).as_bytes()), ["a list of numbers"]);
        for before in ["", "x", "xy", "xyz", "user:"] {
            let joined = format!("{before}{SECRET}tail");
            assert!(forms(STANDARD.encode(&joined).as_bytes()).contains(&"base64"), "behind {before:?}");
            assert!(
                forms(URL_SAFE.encode(&joined).as_bytes()).contains(&"base64 for URLs"),
                "behind {before:?}"
            );
        }
    }

    #[test]
    fn a_digest_or_a_part_is_not_the_secret() {
        assert!(forms(&SECRET.as_bytes()[..SECRET.len() - 1]).is_empty());
        assert!(forms(b"sk-canary is the prefix of many").is_empty());
        assert!(forms(b"").is_empty());
    }

    #[test]
    fn a_secret_in_a_file_or_its_name_is_found_unless_excepted() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = dir.path().join("secrets");
        fs::create_dir_all(dir.path().join("deep")).unwrap();
        fs::create_dir_all(&allowed).unwrap();
        fs::write(dir.path().join("deep/log"), "key=plain-secret-1").unwrap();
        fs::write(dir.path().join("plain-secret-1.txt"), "").unwrap();
        fs::write(allowed.join("a.env"), "plain-secret-1").unwrap();
        let scanner = Scanner::new(&[("canary", "plain-secret-1")]);
        assert_eq!(scanner.path(dir.path()).len(), 3);
        let finds = scanner.except(&allowed).path(dir.path());
        assert_eq!(finds.len(), 2, "{finds:?}");
        assert!(!format!("{finds:?}").contains("key=plain"), "a find never quotes what it found");
    }
}
