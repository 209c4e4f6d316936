//! What becomes of the URL of a database.

use crate::engine::{PostgresOptions, Store};
use crate::error::Result;
use crate::keyring::{KeyRing, SealingKey};

fn opened(url: &str) -> Result<Store> {
    Store::open_postgres(url, KeyRing::single(SealingKey::generate()), PostgresOptions::default())
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_without_repeating_it() {
    for url in [
        "mysql://admin:hunter2@db/fleet",
        "postgres://admin:hunter2@db:notaport/fleet",
        "postgres://admin:hunter2@db/fleet?sslmode=hunter2x",
        "postgres://admin:hunter2@db/fleet?sslmod=verify-full",
        "hunter2",
        "",
    ] {
        let refused = opened(url).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("the database URL cannot be used"), "{url}: {refused}");
        assert!(!refused.contains("hunter2@") && !refused.contains('\n'), "{refused}");
    }
}

#[tokio::test]
async fn what_is_shown_of_a_server_is_its_address_and_never_its_password() {
    let store = opened("postgres://admin:hunter2@db.example:6432/fleet?channel_binding=require").unwrap();
    let shown = format!("{store:?}");
    assert!(shown.contains("db.example:6432/fleet") && !shown.contains("hunter2"), "{shown}");
    assert!(opened("postgresql://db/fleet?sslmode=verify-full&sslrootcert=/ca.pem&options=-csearch_path%3Da").is_ok());
}
