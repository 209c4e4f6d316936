//! What the composition root decides about `/manage`: where it is served, and the token that opens it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

/// How `/manage` is served.
#[derive(Clone, Debug)]
pub struct ManageSettings {
    /// An address of its own; port 0 takes a free one. `None`: beside `/v1`.
    pub listen: Option<SocketAddr>,
    /// What callers must present.
    pub token: ManagementToken,
}

/// The management token.
#[derive(Clone)]
pub enum ManagementToken {
    /// A value that stands until the process ends.
    Fixed(SecretString),
    /// A file with the value; white space around it is passed over. It is read again whenever it has changed, so that a mounted Secret can be
    /// rotated. While it is missing, empty or unreadable, the last good value stands.
    File(PathBuf),
}

impl fmt::Debug for ManagementToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
