//! What most tests stand on: a scripted provider, one process in front of it, one project and its tokens.

use crate::client::{Request, Response};
use crate::manifests::Folder;
use crate::provider::Provider;
use crate::standalone::{Setup, Standalone};

/// The project's credential with the scripted provider.
pub const PROVIDER_KEY: &str = "sk-provider-key-of-the-tests";

/// Provider, manifests and process. The token `app` is always there.
#[derive(Debug)]
pub struct Stage {
    /// The scripted provider.
    pub provider: Provider,
    /// The manifests that the process reads.
    pub folder: Folder,
    /// The process.
    pub process: Standalone,
    /// The OPENAI_API_KEY of the token `app`.
    pub key: String,
}

impl Stage {
    /// `app` are further lines of the token `app`'s spec (two spaces in front of each).
    #[must_use]
    #[track_caller]
    pub fn new(app: &str) -> Self {
        Self::with_tokens(&[("app", app)])
    }

    /// The same with further tokens; `app` must be among them.
    #[must_use]
    #[track_caller]
    pub fn with_tokens(tokens: &[(&str, &str)]) -> Self {
        let provider = Provider::start();
        let folder = Folder::with_tokens(&provider.base_url(), PROVIDER_KEY, tokens);
        let process = Setup::new(&folder).start();
        let key = process.key("app");
        Self {
            provider,
            folder,
            process,
            key,
        }
    }

    /// Sends a request with the token `app` over a connection of its own.
    #[track_caller]
    pub fn send(&self, request: Request) -> Response {
        self.process.send(&request.bearer(&self.key))
    }
}
