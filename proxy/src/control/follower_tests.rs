//! The loader race, forced on both engines: a grant is read, its token is revoked, the revocation is followed, and only then what was read
//! arrives.

use sqlx::{AssertSqlSafe, Connection as _};
use store::{
    Claim, CredentialSpec, KeyRing, Owner, PendingRevision, PostgresOptions, ProjectSpec, ProviderApi, ProviderAuth, ProviderSpec, ResourceUid,
    RevokedBy, SealingKey, Store, TokenId, TokenValue,
};

use super::*;
use crate::settings::{EgressProxies, EgressSettings, Settings};
use crate::upstream::Egress;

/// An empty database.
enum Database {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, name: String },
}

impl Database {
    async fn sqlite() -> (Self, Store) {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::single(SealingKey::generate());
        let store = Store::open_sqlite(&dir.path().join("db"), keys).await.unwrap();
        (Self::Sqlite(dir), store)
    }

    async fn postgres() -> (Self, Store) {
        let server = std::env::var("DATABASE_URL").expect("DATABASE_URL names no PostgreSQL server: run `make test`, which starts one");
        let name = format!("test_follower_{}", uuid::Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').unwrap();
        let keys = KeyRing::single(SealingKey::generate());
        let store = Store::open_postgres(&format!("{base}/{name}"), keys, PostgresOptions::default()).unwrap();
        (Self::Postgres { server, name }, store)
    }

    async fn remove(self, store: Store) {
        store.close().await;
        match self {
            Self::Sqlite(dir) => dir.close().unwrap(),
            Self::Postgres { server, name } => execute(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await,
        }
    }
}

async fn execute(url: &str, text: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A follower of a fleet with one live token.
async fn following(store: &Store) -> (Follower, TokenId, TokenDigest) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    store.migrate().await.unwrap();
    let claim = Claim {
        cluster: "test".into(),
        namespace: "n".into(),
        name: "p".into(),
    };
    let fleet = store.claim(&claim).await.unwrap();
    let echo = ProviderSpec {
        name: "p".into(),
        api: ProviderApi::Echo,
        base_url: None,
        auth: ProviderAuth::None,
        prices: "[]".into(),
    };
    fleet.put_providers(&[echo]).await.unwrap();
    let owner = |name: &str| Owner {
        cluster: "test".into(),
        uid: ResourceUid::new(name),
        namespace: "n".into(),
        name: name.into(),
    };
    let credential = CredentialSpec {
        provider: "p".into(),
        key: None,
    };
    let project = ProjectSpec {
        owner: owner("project"),
        state: ProjectState::Active,
        credentials: vec![credential],
        limits: Vec::new(),
    };
    let (project, _) = fleet.put_project(&project).await.unwrap();
    let value = TokenValue::mint();
    let pending = PendingRevision {
        owner: owner("token"),
        project,
        secret_name: "token".into(),
        revision: 1,
        digest: value.digest(),
        prefix: value.prefix().into(),
        ttl_ms: 3_600_000,
        period: 1,
        max_requests: None,
        rotation_trigger: None,
        limits: Vec::new(),
    };
    let (token, _) = fleet.insert_pending(&pending).await.unwrap();
    fleet.activate(token, &value.digest(), 0).await.unwrap();

    let egress = EgressSettings {
        ca_bundle: None,
        proxies: EgressProxies::Fixed {
            https: String::new(),
            http: String::new(),
            no: String::new(),
        },
    };
    let shared = Shared::new(Settings::default(), Egress::new(&egress).unwrap(), None, 0);
    let (recalls, mut recalled) = mpsc::channel::<Recall>(8);
    tokio::spawn(async move {
        while let Some(recall) = recalled.recv().await {
            let _ = recall.done.send(());
        }
    });
    let mut follower = Follower::new(
        fleet,
        HolderId::new(),
        Arc::new(shared),
        (Blocks::default(), Meters::default()),
        recalls,
        Vec::new(),
    );
    follower.sync().await.unwrap();
    (follower, token, value.digest())
}

/// Reads the grant, revokes the token, follows the revocation, and only then lets what was read arrive. What a request that waits is told.
async fn race(store: &Store, spoil: fn(&mut Follower)) -> Option<Standing> {
    let (mut follower, token, digest) = following(store).await;
    let read = follower.fleet.load_grant(&digest).await.unwrap().expect("the grant");
    follower.fleet.revoke_token(token, RevokedBy::Spec).await.unwrap();
    follower.follow().await;
    spoil(&mut follower);

    let (reply, mut told) = oneshot::channel();
    follower.loading.insert(digest, vec![reply]);
    follower.loaded(follower.era, digest, Ok(Some(read)));
    if let Some(digest) = follower.queued.pop_front() {
        assert!(follower.shared.grants.get(&digest).is_none(), "what was outdated is not put in");
        assert!(told.try_recv().is_err(), "nor told to anybody");
        let again = follower.fleet.load_grant(&digest).await.unwrap();
        follower.loaded(follower.era, digest, Ok(again));
    }
    match told.try_recv() {
        Ok(Loaded::Found(grant)) => {
            assert!(Arc::ptr_eq(&grant, &follower.shared.grants.get(&digest).expect("a grant in the table")));
            Some(grant.standing)
        }
        _ => None,
    }
}

/// The guard is what remembers the changes since: without it the outdated grant would be believed.
fn forget_changes(follower: &mut Follower) {
    follower.remembered.clear();
    follower.forgotten_up_to = FeedVersion::default();
}

#[tokio::test]
async fn a_grant_read_before_its_revocation_is_read_again_on_sqlite() {
    let (database, store) = Database::sqlite().await;
    assert_eq!(race(&store, |_| {}).await, Some(Standing::Inactive));
    database.remove(store).await;
}

#[tokio::test]
async fn a_grant_read_before_its_revocation_is_read_again_on_postgresql() {
    let (database, store) = Database::postgres().await;
    assert_eq!(race(&store, |_| {}).await, Some(Standing::Inactive));
    database.remove(store).await;
}

#[tokio::test]
async fn without_the_guard_the_revoked_token_would_be_served_on_sqlite() {
    let (database, store) = Database::sqlite().await;
    assert_eq!(race(&store, forget_changes).await, Some(Standing::Live));
    database.remove(store).await;
}

#[tokio::test]
async fn without_the_guard_the_revoked_token_would_be_served_on_postgresql() {
    let (database, store) = Database::postgres().await;
    assert_eq!(race(&store, forget_changes).await, Some(Standing::Live));
    database.remove(store).await;
}

#[tokio::test]
async fn a_gap_in_the_feed_drops_every_grant() {
    let (database, store) = Database::sqlite().await;
    let (mut follower, _, digest) = following(&store).await;
    let read = follower.fleet.load_grant(&digest).await.unwrap();
    follower.loaded(follower.era, digest, Ok(read));
    let known = follower.shared.grants.get(&digest).expect("a grant");
    // A follower that has slept beyond retention.
    follower.applied = FeedVersion(follower.applied.0 + 1_000);
    follower.follow().await;
    assert!(known.is_stale() && follower.shared.grants.get(&digest).is_none());
    assert_eq!(follower.applied, follower.fleet.feed_head().await.unwrap().version);
    database.remove(store).await;
}

#[tokio::test]
async fn a_database_that_was_emptied_or_created_anew_drops_every_grant_and_is_not_served_from() {
    let (database, store) = Database::postgres().await;
    let (mut follower, _, digest) = following(&store).await;
    let read = follower.fleet.load_grant(&digest).await.unwrap();
    follower.loaded(follower.era, digest, Ok(read));
    let known = follower.shared.grants.get(&digest).expect("a grant");
    let Database::Postgres { server, name } = &database else {
        unreachable!()
    };
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    execute(&url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public".to_owned()).await;
    for made_anew in [false, true] {
        if made_anew {
            store.migrate().await.unwrap();
        }
        follower.follow().await;
        assert!(known.is_stale() && follower.shared.grants.get(&digest).is_none());
        let why = follower.shared.database.outgrown().expect("it is not ready any more");
        assert!(why.contains("restart this process"), "{why}");
        let (reply, mut told) = oneshot::channel();
        follower.loading.insert(digest, vec![reply]);
        follower.loaded(follower.era, digest, Ok(None));
        assert!(
            matches!(told.try_recv(), Ok(Loaded::Unavailable)),
            "what another database lacks may well be valid"
        );
    }
    database.remove(store).await;
}

#[tokio::test]
async fn acknowledgements_that_come_quickly_are_written_together() {
    let (database, store) = Database::sqlite().await;
    let (mut follower, _, _) = following(&store).await;
    let acked = async |follower: &Follower| follower.fleet.replicas().await.unwrap()[0].acked;
    let first = acked(&follower).await;
    for n in 0..3 {
        let provider = ProviderSpec {
            name: format!("p{n}"),
            api: ProviderApi::Echo,
            base_url: None,
            auth: ProviderAuth::None,
            prices: "[]".into(),
        };
        follower.fleet.put_providers(&[provider]).await.unwrap();
        follower.heartbeat = Some((first, Instant::now()));
        follower.follow().await;
        assert_eq!(acked(&follower).await, first, "held back");
    }
    let due = follower.owes_acknowledgement().expect("a moment");
    assert!(due <= Instant::now() + ACKNOWLEDGE_EVERY);
    follower.heartbeat = Some((first, Instant::now() - ACKNOWLEDGE_EVERY));
    follower.acknowledge().await;
    assert_eq!(acked(&follower).await, follower.applied);
    assert_eq!(follower.owes_acknowledgement(), None);
    database.remove(store).await;
}
