//! The database of one `server` process: which one it is, the key that opens what is sealed in it, and what is brought in order at a start.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use proxy::Reporting;
use secrecy::{ExposeSecret, SecretString};
use store::{Claim, Fleet, HolderId, KeyRing, PostgresOptions, ProviderApi, ProviderAuth, ProviderSpec, SealingKey, Store, StoreError};

use crate::args::public_url;
use crate::database::Choice;
use crate::dotenv::variable;
use crate::exit::Failure;
use crate::private_file::{Lock, LockError, read_secret, write_secret};
use crate::serving::{self, Contact, NoContact, sealing_key};

/// The provider that every project of a `server` has (contracts.md §10).
pub(crate) const OPENAI: &str = "openai";
const OPENAI_URL: &str = "https://api.openai.com";

/// Everything that is needed to open it, again and again if need be.
pub(crate) struct Database {
    engine: Engine,
    keys: KeyRing,
    openai_url: String,
}

enum Engine {
    /// Locked for this process until it ends.
    Sqlite {
        path: PathBuf,
        _lock: Lock,
    },
    Postgres {
        url: SecretString,
    },
}

impl Database {
    /// Decides which one it is; locks a SQLite file, and makes its key at the first start.
    pub(crate) fn of(db: Option<&Path>) -> Result<Self, Failure> {
        let openai_url = variable("OPENAI_API_URL");
        let openai_url = public_url(openai_url.as_ref().map_or(OPENAI_URL, ExposeSecret::expose_secret))
            .map_err(|why| Failure::new(format_args!("OPENAI_API_URL: {why}")))?;
        let given = variable("ENCRYPTION_KEY").map(|text| sealing_key(&text, "ENCRYPTION_KEY")).transpose()?;
        let (engine, key) = match Choice::of(db)? {
            Choice::Postgres(url) => {
                let key = given.ok_or_else(|| {
                    Failure::new(
                        "ENCRYPTION_KEY is not set: all processes on one PostgreSQL need the same key, base64 of 32 bytes, such as the output of `openssl rand -base64 32`",
                    )
                })?;
                (Engine::Postgres { url }, key)
            }
            Choice::Sqlite(path) => {
                let lock = lock(&path)?;
                let key = given.map_or_else(|| key_beside(&path), Ok)?;
                (Engine::Sqlite { path, _lock: lock }, key)
            }
        };
        Ok(Self {
            engine,
            keys: KeyRing::single(key),
            openai_url,
        })
    }

    /// How soon it is to hear what was used.
    pub(super) fn reporting(&self) -> Reporting {
        match self.engine {
            Engine::Sqlite { .. } => Reporting::Prompt,
            Engine::Postgres { .. } => Reporting::Sparing,
        }
    }

    /// Opens, migrates, claims, and puts in what this process was told about the provider.
    pub(crate) async fn open(&self, holder: HolderId) -> Result<Contact, NoContact> {
        let store = self.store().await.map_err(|error| self.sort(error))?;
        // What a server says to this is about the server, its users and its databases, and somebody may be about to mend it.
        if let (Engine::Postgres { .. }, Err(error @ StoreError::Refused(_))) = (&self.engine, store.schema_info().await) {
            store.close().await;
            return Err(NoContact::Yet("the database refuses this process: see the log".to_owned(), error));
        }
        match self.prepare(&store, holder).await {
            Ok(fleet) => Ok(Contact { store, fleet }),
            Err(error) => {
                store.close().await;
                Err(self.sort(error))
            }
        }
    }

    /// Opens it; the schema is left as it is.
    pub(crate) async fn store(&self) -> store::Result<Store> {
        match &self.engine {
            Engine::Sqlite { path, .. } => Store::open_sqlite(path, self.keys.clone()).await,
            Engine::Postgres { url } => Store::open_postgres(url.expose_secret(), self.keys.clone(), PostgresOptions::default()),
        }
    }

    async fn prepare(&self, store: &Store, holder: HolderId) -> store::Result<Fleet> {
        store.migrate().await?;
        let fleet = store.claim(&claim()).await?;
        if let Engine::Sqlite { .. } = self.engine {
            serving::take_over(&fleet, holder).await?;
        }
        fleet.put_api_provider(&self.openai()).await?;
        Ok(fleet)
    }

    fn openai(&self) -> ProviderSpec {
        ProviderSpec {
            name: OPENAI.to_owned(),
            api: ProviderApi::OpenAi,
            base_url: Some(self.openai_url.clone()),
            auth: ProviderAuth::Bearer,
            prices: "[]".into(),
        }
    }

    /// Whether waiting may help.
    fn sort(&self, error: StoreError) -> NoContact {
        let local = matches!(self.engine, Engine::Sqlite { .. });
        match &error {
            StoreError::Unavailable(_) => NoContact::Yet("the database cannot be reached".to_owned(), error),
            StoreError::ReadOnly(_) if !local => NoContact::Yet("the database is read-only".to_owned(), error),
            StoreError::Full(_) => NoContact::Yet("the database is full".to_owned(), error),
            _ => NoContact::Ever(Failure::new(error)),
        }
    }
}

fn claim() -> Claim {
    Claim {
        cluster: "server".to_owned(),
        namespace: "-".to_owned(),
        name: "-".to_owned(),
    }
}

/// Makes the folder of a SQLite file (0700) if need be and locks the file for this process.
pub(crate) fn lock(db: &Path) -> Result<Lock, Failure> {
    let failed = |act: &str, path: &Path, error: io::Error| {
        Failure::new(format_args!(
            "cannot {act} {}: {error}: give --db a path that this user can write",
            path.display()
        ))
    };
    let folder = folder_of(db);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed("create", folder, error))?;
    let mut path = db.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    Lock::take(&path).map_err(|error| match error {
        LockError::Held(holder) => Failure::new(format_args!(
            "database {} is in use by another llm-proxy{holder}: stop that one, give --db another file, or share a PostgreSQL (DATABASE_URL)",
            db.display()
        )),
        LockError::Io(error) => failed("lock", &path, error),
    })
}

/// The key of a SQLite file: made at the first start, afterwards only read. Without it an existing database is refused.
fn key_beside(db: &Path) -> Result<SealingKey, Failure> {
    let path = folder_of(db).join("encryption.key");
    let unusable = |why: &dyn std::fmt::Display| Failure::new(format_args!("{} is not usable: {why}: restore the file", path.display()));
    if let Some(text) = read_secret(&path).map_err(|error| unusable(&error))? {
        return SealingKey::from_base64(&text).map_err(|why| unusable(&why));
    }
    if db.exists() {
        return Err(Failure::new(format_args!(
            "{} is missing, but {} was sealed with it: restore the key file, or give the key in ENCRYPTION_KEY (a new one could not open the stored provider keys)",
            path.display(),
            db.display()
        )));
    }
    let key = SealingKey::generate();
    write_secret(&path, &key.to_base64()).map_err(|error| Failure::new(format_args!("cannot write {}: {error}", path.display())))?;
    Ok(key)
}

fn folder_of(db: &Path) -> &Path {
    db.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
