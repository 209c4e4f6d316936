//! Who may use `/manage`: whoever presents the management token. Compared in constant time; the file is read again when it has changed.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::problem::Problem;
use super::settings::ManagementToken;
use super::throttle::Throttle;

/// The largest file that is read as a token.
const MAX_TOKEN: u64 = 4 << 10;

/// The token that opens `/manage`, as its digest.
pub(super) struct Gate {
    source: ManagementToken,
    known: RwLock<Known>,
    throttle: Throttle,
}

struct Known {
    digest: [u8; 32],
    stamp: Option<Stamp>,
}

/// What changes when a file does, or a link to it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Gate {
    /// # Errors
    /// Why the token cannot be had, in one line and without it.
    pub(super) fn new(source: ManagementToken) -> Result<Self, String> {
        let known = match &source {
            ManagementToken::Fixed(value) if value.expose_secret().trim().is_empty() => return Err("the management token is empty".into()),
            ManagementToken::Fixed(value) => Known {
                digest: digest(value.expose_secret().trim()),
                stamp: None,
            },
            ManagementToken::File(path) => read(path)?,
        };
        Ok(Self {
            source,
            known: RwLock::new(known),
            throttle: Throttle::default(),
        })
    }

    /// Lets whoever presents the token pass.
    pub(super) fn admit(&self, headers: &HeaderMap, source: IpAddr) -> Result<(), Problem> {
        // Who presents nothing guesses nothing.
        let presented = bearer(headers).ok_or_else(Problem::missing_token)?;
        if self.opens(presented) {
            return Ok(());
        }
        self.throttle.failed(source, Instant::now()).map_err(Problem::throttled)?;
        Err(Problem::invalid_token())
    }

    fn opens(&self, presented: &[u8]) -> bool {
        let wanted = self.current();
        let presented: [u8; 32] = Sha256::digest(presented).into();
        presented.ct_eq(&wanted).into()
    }

    fn current(&self) -> [u8; 32] {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let ManagementToken::File(path) = &self.source else {
            return known.digest;
        };
        let stamp = fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        if stamp.is_none() || stamp == known.stamp {
            return known.digest;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match read(path) {
            Ok(fresh) => {
                if fresh.digest != known.digest {
                    tracing::info!(file = %path.display(), "the management token was changed");
                }
                *known = fresh;
            }
            Err(why) => {
                tracing::warn!(why, "the management token stays what it was");
                // Said once per change, and tried again at the next one.
                known.stamp = stamp;
            }
        }
        known.digest
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn read(path: &Path) -> Result<Known, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("the management token's file {} cannot be used: {why}", path.display());
    // The stamp before the content: what changes in between is read again.
    let metadata = fs::metadata(path).map_err(|e| wrong(&e))?;
    if metadata.len() > MAX_TOKEN {
        return Err(wrong(&"it is too long for a token"));
    }
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|e| wrong(&e))?;
    if text.trim().is_empty() {
        return Err(wrong(&"it is empty"));
    }
    Ok(Known {
        digest: digest(text.trim()),
        stamp: Some(Stamp::of(&metadata)),
    })
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The presented token. One that is there twice is none: who stands before us may have looked at the other one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn presenting(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn code(gate: &Gate, value: &str) -> &'static str {
        gate.admit(&presenting(value), HERE).map_or_else(|problem| problem.code, |()| "admitted")
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_the_token_to_the_letter() {
        let gate = Gate::new(ManagementToken::Fixed("secret".into())).unwrap();
        for right in ["Bearer secret", "bearer secret", "BEARER  secret "] {
            assert_eq!(code(&gate, right), "admitted", "{right}");
        }
        for wrong in ["Bearer Secret", "Bearer secret1", "Bearer secre"] {
            assert_eq!(code(&gate, wrong), "invalid_management_token", "{wrong}");
        }
        for none in ["Basic secret", "Bearer", "Bearer ", "secret"] {
            assert_eq!(code(&gate, none), "missing_management_token", "{none}");
        }
        let mut twice = presenting("Bearer secret");
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        assert_eq!(gate.admit(&twice, HERE).unwrap_err().code, "missing_management_token");
    }

    #[test]
    fn who_fails_too_often_is_throttled_but_the_right_token_always_passes() {
        let gate = Gate::new(ManagementToken::Fixed("secret".into())).unwrap();
        let codes: Vec<_> = (0..40).map(|_| code(&gate, "Bearer wrong")).collect();
        assert!(codes.contains(&"too_many_failures"));
        assert_eq!(code(&gate, "Bearer secret"), "admitted");
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_breaks_leaves_the_token_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, " one\n").unwrap();
        let gate = Gate::new(ManagementToken::File(path.clone())).unwrap();
        assert_eq!(code(&gate, "Bearer one"), "admitted");

        // As a mounted Secret changes: another file under the same name.
        fs::write(dir.path().join("next"), "two-longer").unwrap();
        fs::rename(dir.path().join("next"), &path).unwrap();
        assert_eq!(code(&gate, "Bearer two-longer"), "admitted");
        assert_eq!(code(&gate, "Bearer one"), "invalid_management_token");

        fs::write(&path, "").unwrap();
        assert_eq!(code(&gate, "Bearer two-longer"), "admitted");
        fs::remove_file(&path).unwrap();
        assert_eq!(code(&gate, "Bearer two-longer"), "admitted");
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(Gate::new(ManagementToken::File(path.clone())).err().unwrap().contains("cannot be used"));
        fs::write(&path, " \n").unwrap();
        assert!(Gate::new(ManagementToken::File(path)).err().unwrap().contains("empty"));
        assert!(Gate::new(ManagementToken::Fixed(" ".into())).is_err());
    }
}
