//! One word for everything that a pod reads only at its start: when it changes, the pods are replaced.
//! It refuses to know pods. The database URL holds a password, so the hash has a key: nobody can try passwords against it.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;
/// Bytes of the hash that are kept.
const KEPT: usize = 16;

/// What a pod reads at its start from outside its own template.
#[derive(Clone, Debug)]
pub(crate) struct BootInputs {
    /// The URL of the database.
    pub(crate) database_url: SecretString,
    /// The encryption key as it stands in its Secret: the key of this hash.
    pub(crate) encryption_key: SecretString,
    /// The ids of the keys in the ring.
    pub(crate) key_ids: Vec<String>,
    /// The fleet's id in the database: another one if it was created anew. None while the database is not open.
    pub(crate) fleet: Option<String>,
}

/// The hash over the inputs, the image, the arguments and the ports, in hexadecimal.
pub(crate) fn boot_hash(inputs: &BootInputs, image: &str, args: &[String], ports: &[i32]) -> String {
    let mut text = Vec::new();
    let mut add = |part: &str| {
        // The length first, so that no two lists read the same.
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    };
    add(image);
    args.iter().for_each(|arg| add(arg));
    ports.iter().for_each(|port| add(&port.to_string()));
    inputs.key_ids.iter().for_each(|id| add(id));
    add(inputs.database_url.expose_secret());
    inputs.fleet.iter().for_each(|id| add(id));
    let hash = hmac(inputs.encryption_key.expose_secret().trim().as_bytes(), &text);
    hash.iter().take(KEPT).map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA-256 (RFC 2104).
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut padded = [0_u8; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8| padded.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(keyed(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(keyed(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_keyed_hash_is_the_one_of_rfc_4231() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn every_input_changes_it_and_nothing_else_does() {
        let inputs = |url: &str, key: &str, id: &str| BootInputs {
            database_url: url.into(),
            encryption_key: key.into(),
            key_ids: vec![id.to_owned()],
            fleet: (id == "j").then(|| "f".to_owned()),
        };
        let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let all = [
            boot_hash(&inputs("u", "k", "i"), "image", &args(&["a", "b"]), &[1]),
            boot_hash(&inputs("v", "k", "i"), "image", &args(&["a", "b"]), &[1]),
            boot_hash(&inputs("u", "l", "i"), "image", &args(&["a", "b"]), &[1]),
            boot_hash(&inputs("u", "k", "j"), "image", &args(&["a", "b"]), &[1]),
            boot_hash(&inputs("u", "k", "i"), "other", &args(&["a", "b"]), &[1]),
            boot_hash(&inputs("u", "k", "i"), "image", &args(&["ab"]), &[1]),
            boot_hash(&inputs("u", "k", "i"), "image", &args(&["a", "b"]), &[2]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one) && one.len() == 2 * KEPT, "{at}");
        }
        assert_eq!(boot_hash(&inputs("u", " k\n", "i"), "image", &args(&["a", "b"]), &[1]), all[0]);
    }
}
