//! `llm-proxy proxy`: one replica of a fleet. It never migrates: it waits until the schema is one that it can use. It wires; it refuses to
//! know how anything works, and Kubernetes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proxy::{ManageSettings, ManagementToken, Reporting};
use secrecy::{ExposeSecret, SecretString};
use store::{Claim, Fleet, HolderId, KeyRing, PostgresOptions, Store, StoreError};

use crate::args::PodArgs;
use crate::dotenv::variable;
use crate::exit::{Failure, Outcome};
use crate::logging;
use crate::serving::{self, Contact, NoContact, postgres_url, sealing_key, secret};

/// Where a pod serves /manage unless --manage-listen says otherwise: a Service of its own that is never routed outside.
const MANAGE_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8081);

/// Everything that is needed to open the database, again and again if need be.
struct Database<'a> {
    url: SecretString,
    keys: KeyRing,
    claim: &'a Claim,
}

/// Serves until a signal.
pub(crate) fn run(args: &PodArgs) -> Result<Outcome, Failure> {
    let missing = |name: &str, flag: &str| Failure::new(format_args!("{name} is not set: give it in the environment, or a file with {flag}"));
    let url = secret(args.database_url_file.as_deref(), "DATABASE_URL")?;
    let url = postgres_url(url.ok_or_else(|| missing("DATABASE_URL", "--database-url-file"))?, "the database URL")?;
    let key = secret(args.encryption_key_file.as_deref(), "ENCRYPTION_KEY")?;
    let key = key.ok_or_else(|| missing("ENCRYPTION_KEY", "--encryption-key-file"))?;
    let database = Database {
        url,
        keys: KeyRing::single(sealing_key(&key, "the encryption key")?),
        claim: &args.claim,
    };
    let token = args.management_token_file.clone().map(ManagementToken::File);
    let token = token.or_else(|| variable("MANAGEMENT_TOKEN").map(ManagementToken::Fixed));
    let manage = token.map(|token| ManageSettings {
        listen: Some(args.serve.manage_listen.unwrap_or(MANAGE_LISTEN)),
        token,
    });
    let _log = logging::start(&args.serve.log)?;
    let runtime = serving::runtime()?;
    let settings = serving::settings(&args.serve, args.listen, manage, Reporting::Sparing);
    let ended = runtime.block_on(async {
        let asked_to_end = serving::signals()?;
        serving::serve(settings, HolderId::new(), asked_to_end, async || database.open().await).await
    });
    runtime.shutdown_timeout(serving::LEFTOVERS);
    ended
}

impl Database<'_> {
    async fn open(&self) -> Result<Contact, NoContact> {
        let opened = Store::open_postgres(self.url.expose_secret(), self.keys.clone(), PostgresOptions::default());
        let store = opened.map_err(|error| NoContact::Ever(Failure::new(error)))?;
        match self.fleet(&store).await {
            Ok(fleet) => Ok(Contact { store, fleet }),
            Err(no_contact) => {
                store.close().await;
                Err(no_contact)
            }
        }
    }

    async fn fleet(&self, store: &Store) -> Result<Fleet, NoContact> {
        let yet = |what: &str, error| NoContact::Yet(what.to_owned(), error);
        let schema = store.schema_info().await.map_err(|error| match error {
            StoreError::Unavailable(_) => yet("the database cannot be reached", error),
            _ => yet("the database refuses this process: see the log", error),
        })?;
        match schema.map(|schema| schema.check_reader().and_then(|()| schema.check_writer())) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(yet("the database's schema is not one that this version of llm-proxy can use", error)),
            None => {
                let empty = StoreError::Refused("the database is empty: run `llm-proxy migrate up`".to_owned());
                return Err(yet("the database has no schema yet", empty));
            }
        }
        store.claim(self.claim).await.map_err(|error| match error {
            StoreError::Conflict { .. } | StoreError::WrongKey { .. } => NoContact::Ever(Failure::new(error)),
            _ => yet("the database cannot be claimed at this moment", error),
        })
    }
}
