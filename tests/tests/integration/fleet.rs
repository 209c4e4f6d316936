//! What the tests of a fleet stand on: one PostgreSQL, several `server` processes on it, a scripted provider, and rows that are written
//! through the store as an operator would write them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use store::{
    Claim, CredentialSpec, Fleet as Rows, KeyRing, Limit, LimitUnit, Owner, PendingRevision, PostgresOptions, ProjectId, ProjectSpec, ProjectState,
    QuotaView, ResourceUid, RevokedBy, SealingKey, Store, Subject, TokenId, TokenValue, Window, limits_in_order,
};
use testkit::client::Request;
use testkit::postgres::Database;
use testkit::provider::{Provider, Reply, wire};
use testkit::server::{ENCRYPTION_KEY, Server, Setup};
use testkit::stage::PROVIDER_KEY;

/// How many requests the provider has received, by model.
pub(crate) type Received = Arc<Mutex<HashMap<String, u64>>>;

/// Tells the threads of a load that it is over, also when the test fails: they would be waited for.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A fleet's database and provider, and how its processes are started.
pub(crate) struct Fleet {
    pub(crate) provider: Provider,
    pub(crate) setup: Setup,
    pub(crate) rows: Rows,
    /// By model: each token of [`Fleet::token`] asks for one of its own.
    pub(crate) received: Received,
    project: ProjectId,
    runtime: tokio::runtime::Runtime,
    // Last: the pools above are closed before the database is dropped.
    pub(crate) database: Database,
}

/// A token and its clear text.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    pub(crate) key: String,
    /// What it asks for, so that the provider can tell whose request it was.
    pub(crate) model: String,
}

impl Token {
    /// The smallest chat completion with this token.
    pub(crate) fn chat(&self) -> Request {
        let body = serde_json::json!({"model": self.model, "messages": [{"role": "user", "content": "fox"}]});
        Request::post("/v1/chat/completions", &body).bearer(&self.key)
    }
}

impl Fleet {
    /// A migrated, claimed database with one project. No process runs yet.
    pub(crate) fn new() -> Self {
        Self::reached_through(None)
    }

    /// The processes reach the database through another address.
    pub(crate) fn through(wire: impl FnOnce(SocketAddr) -> SocketAddr) -> Self {
        Self::reached_through(Some(Box::new(wire)))
    }

    fn reached_through(wire: Option<Box<dyn FnOnce(SocketAddr) -> SocketAddr + '_>>) -> Self {
        let database = Database::create();
        let provider = Provider::start_counting(Reply::json(200, &wire::chat("m")));
        let received = Received::default();
        let (noted, reply) = (Arc::clone(&received), Reply::json(200, &wire::chat("m")));
        provider.always_with(move |exchange| {
            let model = exchange.json()["model"].as_str().unwrap_or_default().to_owned();
            *noted.lock().unwrap().entry(model).or_default() += 1;
            reply.clone()
        });
        let url = wire.map_or_else(|| database.url(), |wire| database.url_through(wire(database.server_address())));
        let setup = Setup::postgres(&url)
            .env("OPENAI_API_URL", &provider.base_url())
            .arg("--stale-after")
            .arg("5s");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (rows, project) = runtime.block_on(prepare(&database.url()));
        Self {
            provider,
            setup,
            rows,
            received,
            project,
            runtime,
            database,
        }
    }

    /// Starts so many processes.
    pub(crate) fn start(&self, count: usize) -> Vec<Server> {
        let mut servers: Vec<_> = (0..count).map(|_| self.setup.spawn()).collect();
        servers.iter_mut().for_each(|process| process.wait_until_ready());
        servers
    }

    /// A fresh token, with a limit or without.
    pub(crate) fn token(&self, name: &str, max_requests: Option<u64>) -> Token {
        self.token_under(name, max_requests, Vec::new())
    }

    /// The same with further limits of its own.
    pub(crate) fn token_under(&self, name: &str, max_requests: Option<u64>, limits: Vec<Limit>) -> Token {
        let value = TokenValue::mint();
        let pending = PendingRevision {
            owner: owner(name),
            project: self.project,
            secret_name: name.to_owned(),
            revision: 1,
            digest: value.digest(),
            prefix: value.prefix().into(),
            ttl_ms: 3_600_000,
            period: 1,
            max_requests,
            rotation_trigger: None,
            limits: limits_in_order(limits),
        };
        let id = self.run(async {
            let (id, _) = self.rows.insert_pending(&pending).await.unwrap();
            self.rows.activate(id, &value.digest(), 0).await.unwrap();
            id
        });
        Token {
            id,
            key: value.expose().to_owned(),
            model: name.to_owned(),
        }
    }

    /// Puts all tokens under limits of their project.
    pub(crate) fn limit_project(&self, limits: Vec<Limit>) {
        let spec = project_under(limits);
        self.run(async { self.rows.put_project(&spec).await.unwrap() });
    }

    /// What is used of a limit in the present window.
    pub(crate) fn window(&self, subject: Subject, unit: LimitUnit, window: Window) -> Option<QuotaView> {
        self.run(async { self.rows.window_quota(subject, unit, window).await.unwrap() })
    }

    /// The project of all tokens.
    pub(crate) fn project(&self) -> Subject {
        Subject::Project(self.project)
    }

    /// Revokes a token: when this returns, its transaction has committed.
    pub(crate) fn revoke(&self, token: &Token) {
        self.run(async { self.rows.revoke_token(token.id, RevokedBy::Spec).await.unwrap() });
    }

    /// The quota of a token as it stands.
    pub(crate) fn quota(&self, token: &Token) -> QuotaView {
        let tokens = self.run(async { self.rows.tokens().await.unwrap() });
        let token = tokens.iter().find(|known| known.id == token.id).expect("the token");
        token.quota.expect("its quota")
    }

    /// How many requests of a token the provider has received.
    pub(crate) fn received_of(&self, token: &Token) -> u64 {
        self.received.lock().unwrap().get(&token.model).copied().unwrap_or(0)
    }

    /// What is leased and not reported as spent, over all tokens.
    pub(crate) fn outstanding(&self) -> u64 {
        u64::try_from(self.database.number("SELECT COALESCE(SUM(reserved), 0) FROM quotas")).unwrap()
    }

    /// Requests that are booked in the usage table.
    pub(crate) fn used(&self) -> u64 {
        u64::try_from(self.database.number("SELECT COALESCE(SUM(requests), 0) FROM usage")).unwrap()
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// As the first process of a `server` fleet would, so that rows can be written before one runs.
async fn prepare(url: &str) -> (Rows, ProjectId) {
    let key = SealingKey::from_base64(ENCRYPTION_KEY).unwrap();
    let store = Store::open_postgres(url, KeyRing::single(key), PostgresOptions::default()).unwrap();
    store.migrate().await.unwrap();
    let part = |text: &str| text.to_owned();
    let claim = Claim {
        cluster: part("server"),
        namespace: part("-"),
        name: part("-"),
    };
    let rows = store.claim(&claim).await.unwrap();
    let (project, _) = rows.put_project(&project_under(Vec::new())).await.unwrap();
    (rows, project)
}

fn project_under(limits: Vec<Limit>) -> ProjectSpec {
    let credential = CredentialSpec {
        provider: "openai".to_owned(),
        key: Some(PROVIDER_KEY.to_owned().into()),
    };
    ProjectSpec {
        owner: owner("project"),
        state: ProjectState::Active,
        credentials: vec![credential],
        limits: limits_in_order(limits),
    }
}

fn owner(name: &str) -> Owner {
    Owner {
        cluster: "tests".to_owned(),
        uid: ResourceUid::new(name),
        namespace: "n".to_owned(),
        name: name.to_owned(),
    }
}
