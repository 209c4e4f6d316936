//! What the tests stand on: a database, a project with one token, a provider's address, and the data plane in front of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use proxy::{DrainReport, EgressProxies, EgressSettings, Proxy, Settings};
use sqlx::Connection as _;
use store::{
    Claim, CredentialSpec, Fleet, HolderId, KeyRing, Limit, LimitAction, LimitScope, LimitUnit, Owner, PendingRevision, ProjectId, ProjectSpec,
    ProjectState, ProviderApi, ProviderAuth, ProviderSpec, ResourceUid, SealingKey, Store, Subject, TokenId, TokenValue, Window, limits_in_order,
};

use crate::client::{Answer, Client};
use crate::wait;

/// The credential that the provider is given.
pub(crate) const PROVIDER_KEY: &str = "provider-key";

/// A running data plane and its database.
pub(crate) struct Stage {
    pub(crate) proxy: Option<Proxy>,
    pub(crate) fleet: Fleet,
    pub(crate) holder: HolderId,
    pub(crate) project: ProjectId,
    pub(crate) token: TokenId,
    /// The token's clear text.
    pub(crate) key: String,
    pub(crate) dir: tempfile::TempDir,
    address: std::net::SocketAddr,
    settings: Settings,
}

/// Where the project's requests go.
pub(crate) enum Upstream {
    Echo,
    Url(String),
}

impl From<&crate::provider::Provider> for Upstream {
    fn from(provider: &crate::provider::Provider) -> Self {
        Self::Url(format!("http://{}", provider.address()))
    }
}

/// What a stage is made of.
pub(crate) struct Setup {
    upstream: Upstream,
    pub(crate) max_requests: Option<u64>,
    limits: Vec<Limit>,
    project_limits: Vec<Limit>,
    prices: &'static str,
    clock_ms: Option<i64>,
    pub(crate) ttl_ms: i64,
    pub(crate) settings: Settings,
}

impl Setup {
    pub(crate) fn new(upstream: impl Into<Upstream>) -> Self {
        let egress = EgressSettings {
            ca_bundle: None,
            proxies: EgressProxies::Fixed {
                https: String::new(),
                http: String::new(),
                no: String::new(),
            },
        };
        Self {
            upstream: upstream.into(),
            max_requests: None,
            limits: Vec::new(),
            project_limits: Vec::new(),
            prices: "[]",
            clock_ms: None,
            ttl_ms: 3_600_000,
            settings: Settings {
                listen: "127.0.0.1:0".parse().unwrap(),
                threads: 1,
                egress,
                ..Settings::default()
            },
        }
    }

    pub(crate) fn max_requests(mut self, limit: u64) -> Self {
        self.max_requests = Some(limit);
        self
    }

    /// A further limit of the token's own.
    pub(crate) fn limit(mut self, unit: LimitUnit, window: Window, max_units: u64) -> Self {
        self.limits.push(limit(unit, window, LimitScope::Token, max_units));
        self
    }

    /// A limit of the project.
    pub(crate) fn project_limit(mut self, limit: Limit) -> Self {
        self.project_limits.push(limit);
        self
    }

    /// Prices of the provider's models.
    pub(crate) fn prices(mut self, prices: &'static str) -> Self {
        self.prices = prices;
        self
    }

    /// The database's clock stands at `ms` until [`Stage::clock`] moves it.
    pub(crate) fn clock(mut self, ms: i64) -> Self {
        self.clock_ms = Some(ms);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) async fn start(self) -> Stage {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&dir.path().join("db"), KeyRing::single(SealingKey::generate()))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        if let Some(ms) = self.clock_ms {
            let replace = format!(
                "DROP VIEW clock; CREATE TABLE test_clock (now_ms BIGINT NOT NULL);
                INSERT INTO test_clock VALUES ({ms}); CREATE VIEW clock AS SELECT now_ms FROM test_clock;"
            );
            let path = dir.path().join("db");
            let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(replace)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        let claim = Claim {
            cluster: "test".into(),
            namespace: "n".into(),
            name: "p".into(),
        };
        let fleet = store.claim(&claim).await.unwrap();
        let (api, base_url, auth) = match self.upstream {
            Upstream::Echo => (ProviderApi::Echo, None, ProviderAuth::None),
            Upstream::Url(url) => (ProviderApi::OpenAi, Some(url), ProviderAuth::Bearer),
        };
        let key = (auth == ProviderAuth::Bearer).then(|| PROVIDER_KEY.to_owned().into());
        let provider = ProviderSpec {
            name: "p".into(),
            api,
            base_url,
            auth,
            prices: self.prices.into(),
        };
        fleet.put_providers(&[provider]).await.unwrap();
        let spec = ProjectSpec {
            owner: owner("project"),
            state: ProjectState::Active,
            credentials: vec![CredentialSpec { provider: "p".into(), key }],
            limits: limits_in_order(self.project_limits),
        };
        let (project, _) = fleet.put_project(&spec).await.unwrap();
        let (token, key) = issue_limited(&fleet, project, self.ttl_ms, self.max_requests, self.limits).await;
        let holder = HolderId::new();
        let proxy = Proxy::start(self.settings.clone(), fleet.clone(), holder).await.unwrap();
        Stage {
            settings: self.settings,
            address: proxy.addr(),
            proxy: Some(proxy),
            fleet,
            holder,
            project,
            token,
            key,
            dir,
        }
    }
}

/// A fresh token of a project; its row and its clear text.
pub(crate) async fn issue(fleet: &Fleet, project: ProjectId, ttl_ms: i64, max_requests: Option<u64>) -> (TokenId, String) {
    issue_limited(fleet, project, ttl_ms, max_requests, Vec::new()).await
}

/// A limit that blocks.
pub(crate) fn limit(unit: LimitUnit, window: Window, scope: LimitScope, max_units: u64) -> Limit {
    Limit {
        unit,
        window,
        scope,
        max_units,
        action: LimitAction::Block,
    }
}

/// The same with further limits.
pub(crate) async fn issue_limited(
    fleet: &Fleet,
    project: ProjectId,
    ttl_ms: i64,
    max_requests: Option<u64>,
    limits: Vec<Limit>,
) -> (TokenId, String) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let value = TokenValue::mint();
    let pending = PendingRevision {
        owner: owner(&format!("token-{}", NUMBER.fetch_add(1, Ordering::Relaxed))),
        project,
        secret_name: "token".into(),
        revision: 1,
        digest: value.digest(),
        prefix: value.prefix().into(),
        ttl_ms,
        period: 1,
        max_requests,
        rotation_trigger: None,
        limits: limits_in_order(limits),
    };
    let (token, _) = fleet.insert_pending(&pending).await.unwrap();
    fleet.activate(token, &value.digest(), 0).await.unwrap();
    (token, value.expose().to_owned())
}

fn owner(name: &str) -> Owner {
    Owner {
        cluster: "test".into(),
        uid: ResourceUid::new(name),
        namespace: "n".into(),
        name: name.into(),
    }
}

impl Stage {
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::open(self.address).await
    }

    /// Sends over a connection of its own.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().await.send(request).await
    }

    /// The smallest chat completion with the stage's token.
    pub(crate) fn chat(&self) -> String {
        self.post("", r#"{"model":"echo","messages":[]}"#)
    }

    /// A chat completion with further header lines, each ending in CRLF.
    pub(crate) fn post(&self, headers: &str, body: &str) -> String {
        let (key, length) = (&self.key, body.len());
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )
    }

    /// A GET with the stage's token and further header lines, each ending in CRLF.
    pub(crate) fn get(&self, target: &str, headers: &str) -> String {
        let key = &self.key;
        format!("GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n{headers}\r\n")
    }

    /// (used, reserved, forfeited) of the stage's token.
    pub(crate) async fn quota(&self) -> (u64, u64, u64) {
        let tokens = self.fleet.tokens().await.unwrap();
        let quota = tokens.iter().find(|t| t.id == self.token).and_then(|t| t.quota).expect("a quota");
        (quota.used, quota.reserved, quota.forfeited)
    }

    /// Waits until everything leased is reported or returned, and exactly `used` is booked.
    #[track_caller]
    pub(crate) fn settles_at(&self, used: u64) -> impl Future<Output = ()> {
        wait::until("a settled ledger", move || async move { self.quota().await == (used, 0, 0) })
    }

    /// (used, reserved, forfeited) of a limit of the stage's token in the present window.
    pub(crate) async fn window(&self, unit: LimitUnit, window: Window) -> (u64, u64, u64) {
        let quota = self.fleet.window_quota(Subject::Token(self.token), unit, window).await.unwrap();
        quota.map_or((0, 0, 0), |quota| (quota.used, quota.reserved, quota.forfeited))
    }

    /// Waits until everything leased of a limit is reported or returned, and exactly `used` is booked.
    #[track_caller]
    pub(crate) fn window_settles_at(&self, unit: LimitUnit, window: Window, used: u64) -> impl Future<Output = ()> {
        wait::until("a settled window", move || async move { self.window(unit, window).await == (used, 0, 0) })
    }

    /// Moves the clock of a stage that was set up with one.
    pub(crate) async fn clock(&self, ms: i64) {
        let mut connection = self.sql_connection().await;
        let text = sqlx::AssertSqlSafe(format!("UPDATE test_clock SET now_ms = {ms}"));
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// (requests, estimated, input tokens) booked so far.
    pub(crate) async fn usage(&self) -> (u64, u64, u64) {
        let rows = self.fleet.usage().await.unwrap();
        let sum = |of: fn(&store::UsageRow) -> u64| rows.iter().map(of).sum();
        (sum(|r| r.requests), sum(|r| r.estimated), sum(|r| r.input_tokens))
    }

    /// Waits until this replica has acknowledged the newest version.
    #[track_caller]
    pub(crate) fn acknowledged(&self) -> impl Future<Output = ()> {
        wait::until("the acknowledgement", move || async move {
            let version = self.fleet.feed_head().await.unwrap().version;
            let replicas = self.fleet.replicas().await.unwrap();
            replicas.iter().any(|r| r.holder == self.holder && r.acked >= version)
        })
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let answer = self.send("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        answer
            .body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Runs SQL on the database behind the store's back.
    pub(crate) async fn sql(&self, text: &'static str) {
        let mut connection = self.sql_connection().await;
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A connection of its own to the database.
    pub(crate) async fn sql_connection(&self) -> sqlx::SqliteConnection {
        let path: PathBuf = self.dir.path().join("db");
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
    }

    /// A second data plane on the same database.
    pub(crate) async fn another(&self) -> Proxy {
        Proxy::start(self.settings.clone(), self.fleet.clone(), HolderId::new()).await.unwrap()
    }

    /// Ends the data plane.
    pub(crate) async fn drain(&mut self) -> DrainReport {
        let proxy = self.proxy.take().expect("a running data plane");
        wait::soon("the end of the drain", proxy.drain()).await
    }
}
