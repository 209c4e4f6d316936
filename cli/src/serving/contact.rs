//! The first contact with a database that may be away when the process starts: tried until it succeeds, while the process already answers.

use std::time::Duration;

use proxy::Proxy;
use store::{Fleet, HolderId, Store, StoreError};

use super::Asked;
use crate::exit::Failure;

/// Between two tries: short, because a database that comes back should not wait for us.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A database that this process may use.
pub(crate) struct Contact {
    /// Its pools.
    pub(crate) store: Store,
    /// The claimed fleet.
    pub(crate) fleet: Fleet,
}

/// Why there is none.
pub(crate) enum NoContact {
    /// It may come by itself: what the process waits for, in words that may be told to anybody, and the details for the log.
    Yet(String, StoreError),
    /// Only somebody can mend it.
    Ever(Failure),
}

/// Tries until the data plane follows the database. `None`: the process was asked to end before.
pub(crate) async fn first_contact(
    proxy: &mut Proxy,
    holder: HolderId,
    asked: &Asked,
    mut open: impl AsyncFnMut() -> Result<Contact, NoContact>,
) -> Result<Option<Contact>, Failure> {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    loop {
        let attempt = async {
            let contact = open().await?;
            match proxy.connect(contact.fleet.clone(), holder).await {
                Ok(()) => Ok(contact),
                Err(error) => {
                    contact.store.close().await;
                    Err(NoContact::Yet("the database cannot be read".to_owned(), error))
                }
            }
        };
        let failed = tokio::select! {
            attempt = attempt => match attempt {
                Ok(contact) => return Ok(Some(contact)),
                Err(failed) => failed,
            },
            () = asked.clone().wait() => return Ok(None),
        };
        match failed {
            NoContact::Ever(failure) => return Err(failure),
            NoContact::Yet(what, error) => {
                if what == said {
                    tracing::debug!(%error, "still waiting: {what}");
                } else {
                    tracing::warn!(%error, "waiting: {what}");
                    said.clone_from(&what);
                }
                proxy.waits_for(what);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked.clone().wait() => return Ok(None),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
