//! A small HTTP/1.1 client for the commands that talk to a server: one connection per call, one deadline over all of it, and errors that
//! end a command in one line. It refuses to know what is asked and what the answers mean.

mod address;
mod answer;
mod connect;
mod error;
mod exchange;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

pub(crate) use address::{BaseUrl, segment};
pub(crate) use answer::{Answer, message_of, printable};
pub(crate) use error::ClientError;

use crate::exit::Failure;
use crate::fleet::{MANAGE_PORT, Tunnel};
use connect::Connector;

/// How long connecting may take, however long the answer may.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What the errors of a command name as the remedy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remedies {
    /// Where the address comes from, such as `--base-url (PROXY_URL)`.
    pub(crate) address: &'static str,
    /// Where the credential comes from.
    pub(crate) credential: &'static str,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// GET, POST …
    pub(crate) method: Method,
    /// Below the base URL, with a leading `/`; a query may follow.
    pub(crate) target: String,
    /// A JSON document.
    pub(crate) body: Option<String>,
    /// What is accepted: `application/json`, `text/event-stream`.
    pub(crate) accept: &'static str,
}

impl Call {
    /// A call without a body that expects JSON.
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            body: None,
            accept: "application/json",
        }
    }

    /// The same with a JSON document.
    pub(crate) fn with_body(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string());
        self
    }
}

/// Calls one server as one caller.
pub(crate) struct Client {
    base: BaseUrl,
    connector: Connector,
    authorization: HeaderValue,
    timeout: Duration,
    remedies: Remedies,
}

impl Client {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// If the credential cannot be a header, or the CA bundle cannot be read.
    pub(crate) fn new(
        base: BaseUrl,
        bearer: &SecretString,
        ca_bundle: Option<&Path>,
        timeout: Duration,
        remedies: Remedies,
    ) -> Result<Self, Failure> {
        let authorization = authorization(bearer, remedies)?;
        let connector = Connector::new(&base, ca_bundle).map_err(Failure::new)?;
        Ok(Self {
            base,
            connector,
            authorization,
            timeout,
            remedies,
        })
    }

    /// The same over a tunnel to a pod.
    ///
    /// # Errors
    /// If the credential cannot be a header.
    pub(crate) fn through(tunnel: Tunnel, bearer: &SecretString, timeout: Duration, remedies: Remedies) -> Result<Self, Failure> {
        let base = BaseUrl::forwarded(tunnel.name(), MANAGE_PORT);
        Ok(Self {
            base,
            connector: Connector::Tunnel(Box::new(tunnel)),
            authorization: authorization(bearer, remedies)?,
            timeout,
            remedies,
        })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// What its errors name as the remedy.
    pub(crate) fn remedies(&self) -> Remedies {
        self.remedies
    }

    /// Calls and reads the whole answer, which must be a success.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let answer = async {
            let response = self.start(call).await?;
            Answer::read(response, &self.base).await
        };
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer?.checked(&self.base),
            Err(_) => Err(self.slow()),
        }
    }

    /// Calls and returns once the head of a success is there; the body is the caller's to read, with his own deadlines.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn open(&self, call: &Call) -> Result<Response<Incoming>, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let response = timeout_at(deadline, self.start(call)).await.map_err(|_| self.slow())??;
        if response.status().is_success() {
            return Ok(response);
        }
        let answer = timeout_at(deadline, Answer::read(response, &self.base))
            .await
            .map_err(|_| self.slow())??;
        Err(answer.refusal(&self.base))
    }

    /// The whole answer to what [`Client::open`] has returned.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn finish(&self, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let answer = Answer::read(response, &self.base);
        tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| self.slow())??
            .checked(&self.base)
    }

    /// That the connection ended too early.
    pub(crate) fn cut(&self) -> ClientError {
        ClientError::Cut {
            base: self.base.to_string(),
            why: None,
        }
    }

    /// That the deadline has passed.
    pub(crate) fn slow(&self) -> ClientError {
        ClientError::Slow {
            base: self.base.to_string(),
            after: self.timeout,
        }
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn start(&self, call: &Call) -> Result<Response<Incoming>, ClientError> {
        let patience = self.timeout.min(CONNECT_TIMEOUT);
        let slow = |_| ClientError::Slow {
            base: self.base.to_string(),
            after: patience,
        };
        let stream = tokio::time::timeout(patience, self.connector.connect(&self.base)).await.map_err(slow)??;
        let request = self.request(call)?;
        exchange::exchange(stream, request)
            .await
            .map_err(|error| ClientError::broken(&self.base, &error))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(self.base.join(&call.target))
            .header(HOST, self.base.authority())
            .header(USER_AGENT, concat!("llm-proxy/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, call.accept)
            .header(AUTHORIZATION, self.authorization.clone());
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = call.body.as_ref().map(|body| Bytes::copy_from_slice(body.as_bytes())).unwrap_or_default();
        request.body(Full::new(body)).map_err(|error| ClientError::NotHttp {
            base: self.base.to_string(),
            why: error.to_string(),
        })
    }
}

fn authorization(bearer: &SecretString, remedies: Remedies) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", bearer.expose_secret().trim())).map_err(|_| {
        Failure::new(format_args!(
            "the credential holds characters that no credential has: check {}",
            remedies.credential
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}
