//! AES-256-GCM over provider keys: a ring of keys by id, the first is primary; the credential's id is the associated data.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Result, StoreError};
use crate::random;

/// GCM's standard nonce, and thus the first bytes of every sealed value.
const NONCE_BYTES: usize = 12;

/// One 256-bit key. Never printed, zeroed on drop.
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// 32 random bytes from the system.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        random::fill(key.as_mut_slice());
        Self(key)
    }

    /// From the key file's text: base64 of 32 bytes, white space around it ignored.
    ///
    /// # Errors
    /// What is wrong with the text, without the text.
    pub fn from_base64(text: &str) -> std::result::Result<Self, &'static str> {
        let mut decoded = Zeroizing::new([0_u8; 48]); // the decoder wants room for its last, partial group
        match STANDARD.decode_slice(text.trim(), decoded.as_mut_slice()) {
            Ok(32) => {
                let mut key = Zeroizing::new([0; 32]);
                key.copy_from_slice(&decoded[..32]);
                Ok(Self(key))
            }
            Ok(_) | Err(base64::DecodeSliceError::OutputSliceTooSmall) => Err("an encryption key is 32 bytes in base64, this one has another length"),
            Err(base64::DecodeSliceError::DecodeError(_)) => Err("an encryption key is 32 bytes in base64, this one is no base64"),
        }
    }

    /// The key file's text.
    #[must_use]
    pub fn to_base64(&self) -> SecretString {
        STANDARD.encode(self.0.as_slice()).into()
    }

    fn id(&self) -> String {
        Sha256::digest(self.0.as_slice())[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// The keys that this process can open; the first seals.
#[derive(Clone)]
pub struct KeyRing {
    keys: Arc<[RingKey]>,
}

struct RingKey {
    id: String,
    cipher: Aes256Gcm,
}

impl KeyRing {
    /// A ring of one key. The key's id is the first 8 hex digits of its SHA-256.
    #[must_use]
    pub fn single(key: SealingKey) -> Self {
        let cipher = Aes256Gcm::new((&*key.0).into());
        Self {
            keys: Arc::new([RingKey { id: key.id(), cipher }]),
        }
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn primary_id(&self) -> &str {
        &self.keys[0].id
    }

    /// Seals `plain`; returns (key id, nonce ‖ ciphertext).
    ///
    /// # Errors
    /// [`StoreError::Refused`] beyond 64 GiB, the most that GCM takes.
    pub fn seal(&self, associated: &[u8], plain: &SecretString) -> Result<(String, Vec<u8>)> {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce);
        let payload = Payload {
            msg: plain.expose_secret().as_bytes(),
            aad: associated,
        };
        let ciphertext = key
            .cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| StoreError::Refused("too long a value to seal".into()))?;
        Ok((key.id.clone(), [nonce.as_slice(), &ciphertext].concat()))
    }

    /// Opens what `seal` made.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`] if the ring has no such key, or it does not open this value under these associated data.
    pub fn open(&self, associated: &[u8], key_id: &str, sealed: &[u8]) -> Result<SecretString> {
        let wrong = || StoreError::WrongKey { key_id: key_id.to_owned() };
        let key = self.keys.iter().find(|key| key.id == key_id).ok_or_else(wrong)?;
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(wrong)?;
        let plain = key
            .cipher
            .decrypt(
                &Nonce::from(*nonce),
                Payload {
                    msg: ciphertext,
                    aad: associated,
                },
            )
            .map_err(|_| wrong())?;
        String::from_utf8(plain).map(SecretString::from).map_err(|error| {
            error.into_bytes().zeroize();
            wrong()
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.into()
    }

    #[test]
    fn what_is_sealed_opens_again_and_never_looks_the_same() {
        let ring = KeyRing::single(SealingKey::generate());
        let (id, sealed) = ring.seal(b"credential-1", &secret("sk-provider")).unwrap();
        let (_, again) = ring.seal(b"credential-1", &secret("sk-provider")).unwrap();
        assert_ne!(sealed, again);
        assert!(!sealed.windows(11).any(|w| w == b"sk-provider"));
        assert_eq!(ring.open(b"credential-1", &id, &sealed).unwrap().expose_secret(), "sk-provider");
    }

    #[test]
    fn another_row_another_key_or_a_changed_byte_does_not_open() {
        let ring = KeyRing::single(SealingKey::generate());
        let (id, mut sealed) = ring.seal(b"credential-1", &secret("sk-provider")).unwrap();
        let other = KeyRing::single(SealingKey::generate());
        let wrong = |result: Result<SecretString>| matches!(result, Err(StoreError::WrongKey { .. }));
        assert!(wrong(ring.open(b"credential-2", &id, &sealed)));
        assert!(wrong(other.open(b"credential-1", &id, &sealed)));
        assert!(wrong(other.open(b"credential-1", other.primary_id(), &sealed)));
        assert!(wrong(ring.open(b"credential-1", &id, &sealed[..8])));
        sealed[20] ^= 1;
        assert!(wrong(ring.open(b"credential-1", &id, &sealed)));
    }

    #[test]
    fn a_key_comes_back_from_its_file_with_the_same_id() {
        let key = SealingKey::generate();
        let text = format!("  {}\n", key.to_base64().expose_secret());
        let again = SealingKey::from_base64(&text).unwrap();
        assert_eq!(KeyRing::single(key).primary_id(), KeyRing::single(again).primary_id());
    }

    #[test]
    fn a_broken_key_file_is_named_for_what_it_is() {
        for short in ["", "AAAA", &"A".repeat(44), &"A".repeat(400)] {
            assert!(SealingKey::from_base64(short).unwrap_err().contains("another length"), "{short}");
        }
        assert!(SealingKey::from_base64("no base64!").unwrap_err().contains("no base64"));
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = SealingKey::generate();
        let text = key.to_base64().expose_secret().to_owned();
        assert_eq!(format!("{key:?}"), "SealingKey(…)");
        assert!(!format!("{:?}", KeyRing::single(key)).contains(&text));
    }
}
