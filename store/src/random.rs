//! Random bytes from the operating system, for tokens, keys and nonces.

use std::time::Duration;

/// Fills `bytes` from the system's random source. If that source fails we wait for it: a weaker value must never be handed out, and
/// there is nothing that a caller could do instead.
pub(crate) fn fill(bytes: &mut [u8]) {
    while let Err(error) = getrandom::fill(bytes) {
        tracing::error!(%error, "the system's random source fails; waiting for it");
        std::thread::sleep(Duration::from_millis(100));
    }
}
