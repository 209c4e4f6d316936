//! The URL of a PostgreSQL database: which of it is understood, and what may be shown of it.

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::error::{Result, StoreError};

/// Parameters of a connection URL that mean something here; others (`channel_binding`, `connect_timeout` …) are passed over.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Understands the URL. Its errors never repeat it.
pub(super) fn connect_options(url: &str) -> Result<PgConnectOptions> {
    let refused = |why: String| StoreError::Refused(format!("the database URL cannot be used: {why}"));
    let url = url.trim();
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(refused("it must begin with postgres:// or postgresql://".into()));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    // A misspelt one would leave the connection less safe than was asked for.
    let of_tls = |name: &&str| name.starts_with("ssl") && !PARAMETERS.contains(name);
    if query.split('&').filter_map(|pair| pair.split('=').next()).any(|name| of_tls(&name)) {
        return Err(refused(
            "a parameter that begins with ssl is none of sslmode, sslrootcert, sslcert and sslkey".into(),
        ));
    }
    let known = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let known = PARAMETERS.contains(&name) || name.starts_with("options[");
        if !known && !name.is_empty() {
            tracing::warn!(parameter = name, "a parameter of the database URL is not known and passed over");
        }
        known
    };
    let query = query.split('&').filter(known).collect::<Vec<_>>().join("&");
    let options: PgConnectOptions = format!("{base}?{query}").parse().map_err(|error: sqlx::Error| match error {
        // Only what sqlx and the URL parser say of its form; neither quotes the URL.
        sqlx::Error::Configuration(why) => refused(why.to_string()),
        _ => refused("its form is not postgres://user:password@host:port/database".into()),
    })?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("llm-proxy"),
    };
    // The default is a startup parameter that poolers refuse unless told otherwise, and no column here is a float.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

/// What of it may be shown.
pub(super) fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}:{}/{database}", socket.display(), options.get_port()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
