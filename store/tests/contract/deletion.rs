//! What a deletion means stands in the rows, and rows that are removed for good leave nothing but what was audited.

use store::{DeletionPolicy, FleetDeletion, HolderId, LeaseReport, ResourceUid, StoreError, TokenChange, TokenDeletionPolicy, UsageDelta};

use crate::harness::{Database, World, claim, on_every_engine, owner, project_spec};

/// Every table whose rows carry a fleet's id.
const TABLES: [&str; 17] = [
    "leases",
    "quotas",
    "usage",
    "usage_writers",
    "token_revisions",
    "tokens",
    "credentials",
    "projects",
    "routes",
    "models",
    "providers",
    "idempotency_keys",
    "file_objects",
    "audit",
    "replicas",
    "changes",
    "feed_head",
];

/// A project with a token of which a request was made and booked.
async fn used(world: &World, name: &str) {
    let project = world.project(name).await;
    let token = world.token(&format!("{name}-app"), project, Some(10)).await;
    let quota = world.view(&token.name).await.quota.unwrap().id;
    let report = LeaseReport {
        quota,
        spent: 0,
        amount: 0,
        want: 4,
    };
    world.fleet.settle(HolderId::new(), &[report]).await.unwrap();
    let delta = UsageDelta {
        project: Some(project),
        token: Some(token.id),
        requests: 1,
        ..UsageDelta::default()
    };
    world.fleet.add_usage(HolderId::new(), 1, &[delta]).await.unwrap();
}

async fn rows(world: &World, table: &str) -> i64 {
    world.database.number(&format!("SELECT COUNT(*) FROM {table}")).await
}

async fn a_policy_stands_in_the_row_until_it_changes_and_is_the_safe_one_at_first(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let of_project = async || world.fleet.project_by_uid(&owner("team").uid).await.unwrap().unwrap().deletion;
    assert_eq!(
        (of_project().await, world.view("app").await.deletion),
        (DeletionPolicy::Retain, TokenDeletionPolicy::Revoke)
    );
    assert_eq!(world.fleet.deletion().await.unwrap(), FleetDeletion::default());

    world.fleet.set_project_deletion(project, DeletionPolicy::Delete).await.unwrap();
    // What is declared of a project otherwise leaves it alone.
    world.fleet.put_project(&project_spec("team")).await.unwrap();
    let orphan = TokenChange {
        deletion: Some(TokenDeletionPolicy::Orphan),
        ..TokenChange::default()
    };
    let version = world.fleet.change_token(token.id, &orphan).await.unwrap();
    assert_eq!(
        world.fleet.change_token(token.id, &orphan).await.unwrap(),
        version,
        "it stands so already"
    );
    assert_eq!(
        (of_project().await, world.view("app").await.deletion),
        (DeletionPolicy::Delete, TokenDeletionPolicy::Orphan)
    );
    world.fleet.set_deletion(DeletionPolicy::Delete, &ResourceUid::new("u-1")).await.unwrap();
    let said = world.fleet.deletion().await.unwrap();
    assert_eq!((said.policy, said.declared_by), (DeletionPolicy::Delete, Some(ResourceUid::new("u-1"))));
}

async fn an_orphan_is_not_looked_for_and_a_deleted_project_is_until_its_rows_are_gone(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let orphan = TokenChange {
        deletion: Some(TokenDeletionPolicy::Orphan),
        ..TokenChange::default()
    };
    world.fleet.change_token(token.id, &orphan).await.unwrap();
    assert!(world.fleet.owned_tokens("standalone").await.unwrap().is_empty());

    let listed = async || world.fleet.owned_projects("standalone").await.unwrap().len();
    world.fleet.set_project_deletion(project, DeletionPolicy::Delete).await.unwrap();
    world.fleet.delete_project(project).await.unwrap();
    assert_eq!(listed().await, 1);
    world.fleet.purge_project(project).await.unwrap();
    assert_eq!(listed().await, 0);
}

async fn a_project_is_removed_with_its_tokens_limits_and_usage_and_nothing_of_another(database: Database) {
    let world = database.fleet().await;
    for name in ["team", "other"] {
        used(&world, name).await;
    }
    let project = world.fleet.project_by_uid(&owner("team").uid).await.unwrap().unwrap().id;
    let refused = world.fleet.purge_project(project).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    world.fleet.delete_project(project).await.unwrap();
    world.fleet.purge_project(project).await.unwrap();
    for table in ["projects", "credentials", "tokens", "token_revisions", "quotas", "leases", "usage"] {
        assert_eq!(rows(&world, table).await, 1, "{table}: of the other project alone");
    }
    assert!(world.fleet.project_by_uid(&owner("team").uid).await.unwrap().is_none());
    assert!(matches!(world.fleet.purge_project(project).await, Err(StoreError::NotFound { .. })));
    // Made again it is another one.
    assert_ne!(world.fleet.put_project(&project_spec("team")).await.unwrap().0, project);
}

async fn a_fleet_is_removed_whole_and_only_if_its_row_says_so(database: Database) {
    let world = database.fleet().await;
    used(&world, "team").await;
    world.fleet.heartbeat(HolderId::new(), store::FeedVersion(0), 1_000).await.unwrap();
    let mine = ResourceUid::new("u-1");
    assert!(
        matches!(world.fleet.purge(&mine).await, Err(StoreError::Refused(_))),
        "nobody has asked for it"
    );
    world.fleet.set_deletion(DeletionPolicy::Delete, &mine).await.unwrap();
    let another = world.fleet.purge(&ResourceUid::new("u-2")).await;
    assert!(matches!(another, Err(StoreError::Refused(_))), "another ProxyConfig has not asked for it");
    world.fleet.set_deletion(DeletionPolicy::Retain, &mine).await.unwrap();
    assert!(
        matches!(world.fleet.purge(&mine).await, Err(StoreError::Refused(_))),
        "it has thought better of it"
    );
    assert_eq!(rows(&world, "projects").await, 1);

    world.fleet.set_deletion(DeletionPolicy::Delete, &mine).await.unwrap();
    let former = world.fleet.lead().await.unwrap();
    let leader = world.fleet.lead().await.unwrap();
    assert!(matches!(former.purge(&mine).await, Err(StoreError::Fenced)));
    leader.purge(&mine).await.unwrap();
    for table in TABLES.into_iter().chain(["fleets"]) {
        assert_eq!(rows(&world, table).await, 0, "{table}");
    }
    // No table with a fleet's rows was left out.
    let with_fleet_id = match &world.database {
        Database::Sqlite { .. } => {
            "SELECT COUNT(*) FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'fleet_id' WHERE m.type = 'table'"
        }
        Database::Postgres(_) => {
            "SELECT COUNT(*) FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
            WHERE c.column_name = 'fleet_id' AND t.table_type = 'BASE TABLE' AND t.table_schema = current_schema()"
        }
    };
    assert_eq!(world.database.number(with_fleet_id).await, i64::try_from(TABLES.len()).unwrap());
    // Nobody's again.
    assert!(world.store.claimed().await.unwrap().is_none());
    assert!(world.store.claim(&claim("another")).await.is_ok());
}

on_every_engine!(
    a_policy_stands_in_the_row_until_it_changes_and_is_the_safe_one_at_first,
    an_orphan_is_not_looked_for_and_a_deleted_project_is_until_its_rows_are_gone,
    a_project_is_removed_with_its_tokens_limits_and_usage_and_nothing_of_another,
    a_fleet_is_removed_whole_and_only_if_its_row_says_so,
);
