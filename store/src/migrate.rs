//! The migration runner. SQL texts live in migrations/<engine>/ and are compiled in.
//! One transaction per migration, and `schema_info` changes in it: a half-run migration cannot be seen by anyone.

use crate::engine::Store;
use crate::error::{Result, StoreError};
use crate::statement::{Conn, OnEngine, sql};

/// One step of the schema, with the texts of each engine.
struct Migration {
    version: i64,
    /// The oldest binary that can still read, or write, a database of this version.
    min_reader: i64,
    min_writer: i64,
    sqlite_up: &'static str,
    sqlite_down: &'static str,
    postgres_up: &'static str,
    postgres_down: &'static str,
}

/// All of them, ascending and without gaps.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        min_reader: 1,
        min_writer: 1,
        sqlite_up: include_str!("../../migrations/sqlite/0001_initial.up.sql"),
        sqlite_down: include_str!("../../migrations/sqlite/0001_initial.down.sql"),
        postgres_up: include_str!("../../migrations/postgres/0001_initial.up.sql"),
        postgres_down: include_str!("../../migrations/postgres/0001_initial.down.sql"),
    },
    Migration {
        version: 2,
        min_reader: 1,
        min_writer: 1,
        sqlite_up: include_str!("../../migrations/sqlite/0002_booked_once.up.sql"),
        sqlite_down: include_str!("../../migrations/sqlite/0002_booked_once.down.sql"),
        postgres_up: include_str!("../../migrations/postgres/0002_booked_once.up.sql"),
        postgres_down: include_str!("../../migrations/postgres/0002_booked_once.down.sql"),
    },
    Migration {
        version: 3,
        min_reader: 1,
        min_writer: 1,
        sqlite_up: include_str!("../../migrations/sqlite/0003_manage.up.sql"),
        sqlite_down: include_str!("../../migrations/sqlite/0003_manage.down.sql"),
        postgres_up: include_str!("../../migrations/postgres/0003_manage.up.sql"),
        postgres_down: include_str!("../../migrations/postgres/0003_manage.down.sql"),
    },
    Migration {
        version: 4,
        min_reader: 1,
        min_writer: 1,
        sqlite_up: include_str!("../../migrations/sqlite/0004_cluster.up.sql"),
        sqlite_down: include_str!("../../migrations/sqlite/0004_cluster.down.sql"),
        postgres_up: include_str!("../../migrations/postgres/0004_cluster.up.sql"),
        postgres_down: include_str!("../../migrations/postgres/0004_cluster.down.sql"),
    },
    // Taken by work that is not in this tree yet: it brings nothing here, so that the numbers have no gap.
    Migration {
        version: 5,
        min_reader: 1,
        min_writer: 1,
        sqlite_up: "SELECT 1",
        sqlite_down: "SELECT 1",
        postgres_up: "SELECT 1",
        postgres_down: "SELECT 1",
    },
    Migration {
        version: 6,
        min_reader: 1,
        min_writer: 1,
        sqlite_up: include_str!("../../migrations/sqlite/0006_limits.up.sql"),
        sqlite_down: include_str!("../../migrations/sqlite/0006_limits.down.sql"),
        postgres_up: include_str!("../../migrations/postgres/0006_limits.up.sql"),
        postgres_down: include_str!("../../migrations/postgres/0006_limits.down.sql"),
    },
];

/// The advisory lock of migrators, the same for all fleets of one PostgreSQL database: "llm-prox" as a number.
const MIGRATORS: i64 = i64::from_be_bytes(*b"llm-prox");

/// The newest schema that this binary knows.
const KNOWN: i64 = MIGRATIONS.len() as i64;

/// The row of schema_info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaInfo {
    /// The number of the newest migration that was applied.
    pub version: i64,
    /// Binaries that know less than this version cannot read it.
    pub min_reader: i64,
    /// Binaries that know less than this version must not write it.
    pub min_writer: i64,
}

impl SchemaInfo {
    /// The newest version that this binary knows.
    pub const NEWEST: i64 = KNOWN;

    /// Whether this binary may read it.
    ///
    /// # Errors
    /// [`StoreError::SchemaTooNew`].
    pub fn check_reader(&self) -> Result<()> {
        if self.min_reader <= KNOWN { Ok(()) } else { Err(self.too_new()) }
    }

    /// Whether this binary may write it.
    ///
    /// # Errors
    /// [`StoreError::SchemaTooNew`]; [`StoreError::Refused`] if migrations are missing.
    pub fn check_writer(&self) -> Result<()> {
        if self.min_writer > KNOWN {
            return Err(self.too_new());
        }
        if self.version < KNOWN { Err(older(self.version)) } else { Ok(()) }
    }

    fn too_new(&self) -> StoreError {
        StoreError::SchemaTooNew {
            found: self.version,
            known: KNOWN,
        }
    }
}

impl Store {
    /// Brings the schema to this binary's version; refuses one that is newer than it can write. Does nothing to one that is already there.
    ///
    /// # Errors
    /// [`StoreError::SchemaTooNew`]; [`StoreError::Refused`] if the database holds tables that are not ours; those of any write.
    pub async fn migrate(&self) -> Result<SchemaInfo> {
        loop {
            // Without the write lock first: a start on a current database writes nothing.
            if let Some(found) = self.schema_info().await?.filter(|found| found.version >= KNOWN) {
                found.check_writer()?;
                return Ok(found);
            }
            let mut tx = self.begin_migration().await?;
            // Read again under the lock: another migrator may have been faster.
            let at = version_of(found_by(&mut tx).await?);
            if at == 0 {
                refuse_foreign_tables(&mut tx).await?;
            }
            let Some(next) = MIGRATIONS.iter().find(|migration| migration.version == at + 1) else {
                continue;
            };
            run(&mut tx, next.sqlite_up, next.postgres_up).await?;
            note(&mut tx, next).await?;
            tx.commit().await?;
            tracing::info!(version = next.version, "migrated the database");
        }
    }

    /// Takes the schema back to version `to`; 0 leaves an empty database. What the dropped tables held is lost.
    ///
    /// # Errors
    /// [`StoreError::SchemaTooNew`] if the database is newer than this binary; those of any write.
    pub async fn migrate_down(&self, to: i64) -> Result<Option<SchemaInfo>> {
        loop {
            let mut tx = self.begin_migration().await?;
            let found = found_by(&mut tx).await?;
            let at = version_of(found);
            if at <= to.max(0) {
                return Ok(found);
            }
            let Some(last) = MIGRATIONS.iter().find(|migration| migration.version == at) else {
                return Err(StoreError::SchemaTooNew { found: at, known: KNOWN });
            };
            run(&mut tx, last.sqlite_down, last.postgres_down).await?;
            if let Some(before) = MIGRATIONS.iter().find(|migration| migration.version == at - 1) {
                note(&mut tx, before).await?;
            }
            tx.commit().await?;
            tracing::info!(version = last.version, "took a migration back");
        }
    }

    /// A transaction that no other migrator runs beside.
    async fn begin_migration(&self) -> Result<Conn> {
        let mut tx = self.begin().await?;
        if let OnEngine::Postgres(connection) = tx.on_engine() {
            connection.take_time().await?;
            // Of the transaction, not of the session: it also holds behind a pooler, and goes with whoever dies.
            sql!(tx, exec, "SELECT pg_advisory_xact_lock($1)", MIGRATORS)?;
        }
        Ok(tx)
    }

    /// The schema as it stands; `None` in an empty database.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn schema_info(&self) -> Result<Option<SchemaInfo>> {
        found_by(&mut self.snapshot().await?).await
    }
}

fn version_of(found: Option<SchemaInfo>) -> i64 {
    found.map_or(0, |found| found.version)
}

fn older(version: i64) -> StoreError {
    StoreError::Refused(format!(
        "the database's schema is version {version}, this binary needs {KNOWN}: migrate it first"
    ))
}

async fn found_by(conn: &mut Conn) -> Result<Option<SchemaInfo>> {
    let tables = match conn.on_engine() {
        OnEngine::Sqlite(_) => sql!(
            conn,
            one,
            "SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'schema_info'"
        )?,
        // Only in the schema that new tables go to: one further down the search path may be another fleet's.
        OnEngine::Postgres(_) => sql!(
            conn,
            one,
            "SELECT COUNT(*) AS n FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_info'"
        )?,
    };
    if tables.int("n")? == 0 {
        return Ok(None);
    }
    let Some(row) = sql!(conn, optional, "SELECT version, min_reader, min_writer FROM schema_info")? else {
        return Ok(None);
    };
    Ok(Some(SchemaInfo {
        version: row.int("version")?,
        min_reader: row.int("min_reader")?,
        min_writer: row.int("min_writer")?,
    }))
}

/// An unmigrated database that holds something belongs to somebody else.
async fn refuse_foreign_tables(conn: &mut Conn) -> Result<()> {
    let (tables, remedy) = match conn.on_engine() {
        OnEngine::Sqlite(_) => (
            sql!(
                conn,
                one,
                "SELECT COUNT(*) AS n FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )?,
            "a file of its own",
        ),
        OnEngine::Postgres(_) => {
            // Those of an extension belong to whoever runs the server.
            let others = "SELECT COUNT(*) AS n FROM pg_catalog.pg_class c
                WHERE c.relnamespace = to_regnamespace(current_schema()) AND c.relkind IN ('r', 'p')
                    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";
            (sql!(conn, one, others)?, "a database or a schema of its own")
        }
    };
    match tables.int("n")? {
        0 => Ok(()),
        n => Err(StoreError::Refused(format!(
            "the database holds {n} tables of something else: give llm-proxy {remedy}"
        ))),
    }
}

async fn run(conn: &mut Conn, sqlite: &'static str, postgres: &'static str) -> Result<()> {
    match conn.on_engine() {
        OnEngine::Sqlite(c) => sqlx::raw_sql(sqlite).execute(c).await.map(drop).map_err(StoreError::from),
        OnEngine::Postgres(c) => c.simple(postgres).await,
    }
}

async fn note(tx: &mut Conn, migration: &Migration) -> Result<()> {
    let now = tx.now().await?;
    let text = "INSERT INTO schema_info (only_row, version, min_reader, min_writer, applied_at) VALUES (1, $1, $2, $3, $4)
        ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, min_reader = excluded.min_reader,
            min_writer = excluded.min_writer, applied_at = excluded.applied_at";
    sql!(tx, exec, text, migration.version, migration.min_reader, migration.min_writer, now.0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_never_ask_for_more_than_they_bring() {
        for (i, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, i as i64 + 1);
            assert!(migration.min_reader <= migration.min_writer && migration.min_writer <= migration.version);
        }
    }
}
