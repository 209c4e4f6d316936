//! A migrated and claimed database of each engine, with a clock that is moved by hand.

use std::path::PathBuf;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use store::{
    Claim, CredentialSpec, DbTime, Fleet, FleetId, KeyRing, Owner, PendingRevision, PostgresOptions, ProjectId, ProjectSpec, ProjectState,
    ProviderApi, ProviderAuth, ProviderSpec, ResourceUid, SealingKey, Store, TokenId, TokenValue, TokenView,
};

use crate::server::PgDatabase;

/// Where every test's clock starts.
pub(crate) const T0: DbTime = DbTime(1_800_000_000_000);

pub(crate) const HOUR: i64 = 3_600_000;

/// Makes a `#[tokio::test]` of each function for each engine.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::harness::Database::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::harness::Database::postgres().await).await;
            })+
        }
    };
}
pub(crate) use on_every_engine;

/// An empty database of one engine, and how to get at it behind the store's back.
pub(crate) enum Database {
    Sqlite { dir: tempfile::TempDir },
    Postgres(PgDatabase),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) async fn postgres() -> Self {
        Self::Postgres(PgDatabase::create().await)
    }

    /// A folder with all that the database holds: its own files, or a dump of every row, bytes in hexadecimal.
    pub(crate) async fn contents(&self) -> PathBuf {
        match self {
            Self::Sqlite { dir } => dir.path().to_owned(),
            Self::Postgres(database) => database.dump().await,
        }
    }

    pub(crate) async fn open(&self, keys: KeyRing) -> Store {
        match self {
            Self::Sqlite { dir } => Store::open_sqlite(&dir.path().join("store.db"), keys).await.unwrap(),
            Self::Postgres(database) => Store::open_postgres(database.url(), keys, PostgresOptions::default()).unwrap(),
        }
    }

    /// A store that cannot write: a file that is opened for reading, a server whose transactions are read-only.
    pub(crate) async fn open_readonly(&self) -> Store {
        match self {
            Self::Sqlite { dir } => Store::open_sqlite_readonly(&dir.path().join("store.db")).await.unwrap(),
            Self::Postgres(database) => {
                let url = format!("{}?options=-cdefault_transaction_read_only%3Don", database.url());
                Store::open_postgres(&url, KeyRing::single(SealingKey::generate()), PostgresOptions::default()).unwrap()
            }
        }
    }

    /// Runs a text that the store would never run.
    pub(crate) async fn raw(&self, text: &str) {
        match self {
            Self::Sqlite { dir } => {
                let done = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut sqlite(dir).await).await;
                done.unwrap();
            }
            Self::Postgres(database) => {
                let done = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut database.connect().await).await;
                done.unwrap();
            }
        }
    }

    /// The one number that a text selects.
    pub(crate) async fn number(&self, text: &str) -> i64 {
        match self {
            Self::Sqlite { dir } => {
                let text = AssertSqlSafe(text.to_owned());
                sqlx::query(text).fetch_one(&mut sqlite(dir).await).await.unwrap().get(0)
            }
            Self::Postgres(database) => {
                // Sums of BIGINT are NUMERIC.
                let text = AssertSqlSafe(format!("SELECT CAST(n AS BIGINT) FROM ({text}) AS numbers(n)"));
                sqlx::query(text).fetch_one(&mut database.connect().await).await.unwrap().get(0)
            }
        }
    }

    /// How many tables and views there are.
    pub(crate) async fn relations(&self) -> i64 {
        match self {
            Self::Sqlite { .. } => self.number("SELECT COUNT(*) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").await,
            Self::Postgres(_) => {
                self.number("SELECT COUNT(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
                    .await
            }
        }
    }
}

async fn sqlite(dir: &tempfile::TempDir) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(dir.path().join("store.db")))
        .await
        .unwrap()
}

impl Database {
    pub(crate) async fn fleet(self) -> World {
        let keys = SealingKey::generate();
        let store = self.open(KeyRing::single(keys)).await;
        store.migrate().await.unwrap();
        let fleet = store.claim(&claim("fleet")).await.unwrap();
        let world = World {
            database: self,
            store,
            fleet,
        };
        world.take_the_clock().await;
        world
    }
}

pub(crate) fn claim(name: &str) -> Claim {
    Claim {
        cluster: "standalone".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

/// A claimed database and short words for what tests do with it.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) fleet: Fleet,
}

impl World {
    async fn take_the_clock(&self) {
        let replace = format!(
            "DROP VIEW clock; CREATE TABLE test_clock (now_ms BIGINT NOT NULL);
            INSERT INTO test_clock VALUES ({}); CREATE VIEW clock AS SELECT now_ms FROM test_clock;",
            T0.0
        );
        self.database.raw(&replace).await;
    }

    /// Moves the clock to `ms` after the start.
    pub(crate) async fn at(&self, ms: i64) {
        self.database.raw(&format!("UPDATE test_clock SET now_ms = {}", T0.0 + ms)).await;
        assert_eq!(self.store.now().await.unwrap(), T0.plus_ms(ms));
    }

    pub(crate) fn fleet_id(&self) -> FleetId {
        self.fleet.id()
    }

    /// The Echo provider and an active project that uses it.
    pub(crate) async fn project(&self, name: &str) -> ProjectId {
        self.fleet.put_providers(&[echo()]).await.unwrap();
        self.fleet.put_project(&project_spec(name)).await.unwrap().0
    }

    /// A token with one active revision that lives for an hour.
    pub(crate) async fn token(&self, name: &str, project: ProjectId, max_requests: Option<u64>) -> Issued {
        let value = TokenValue::mint();
        let pending = PendingRevision {
            max_requests,
            ..pending(name, project, 1, &value)
        };
        let (id, _) = self.fleet.insert_pending(&pending).await.unwrap();
        assert!(self.fleet.activate(id, &value.digest(), 0).await.unwrap().0);
        Issued {
            id,
            value,
            name: name.to_owned(),
            project,
        }
    }

    pub(crate) async fn view(&self, name: &str) -> TokenView {
        self.fleet.token_by_uid(&owner(name).uid).await.unwrap().unwrap()
    }
}

pub(crate) struct Issued {
    pub(crate) id: TokenId,
    pub(crate) value: TokenValue,
    pub(crate) name: String,
    pub(crate) project: ProjectId,
}

pub(crate) fn owner(name: &str) -> Owner {
    Owner {
        cluster: "standalone".into(),
        uid: ResourceUid::new(format!("uid-{name}")),
        namespace: "default".into(),
        name: name.into(),
    }
}

pub(crate) fn echo() -> ProviderSpec {
    ProviderSpec {
        name: "echo".into(),
        api: ProviderApi::Echo,
        base_url: None,
        auth: ProviderAuth::None,
        prices: "[]".into(),
    }
}

pub(crate) fn project_spec(name: &str) -> ProjectSpec {
    let credentials = vec![CredentialSpec {
        provider: "echo".into(),
        key: None,
    }];
    ProjectSpec {
        owner: owner(name),
        state: ProjectState::Active,
        credentials,
        limits: Vec::new(),
    }
}

pub(crate) fn pending(name: &str, project: ProjectId, revision: i64, value: &TokenValue) -> PendingRevision {
    PendingRevision {
        owner: owner(name),
        project,
        secret_name: name.into(),
        revision,
        digest: value.digest(),
        prefix: value.prefix().into(),
        ttl_ms: HOUR,
        period: 1,
        max_requests: None,
        rotation_trigger: None,
        limits: Vec::new(),
    }
}
