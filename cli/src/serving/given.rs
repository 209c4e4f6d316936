//! What a serving process is given by its environment or by files: secrets, and how they must look. No message repeats one.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use store::SealingKey;

use crate::dotenv::variable;
use crate::exit::Failure;
use crate::private_file::read_secret;

/// What a file says, without white space around it, or else a variable of the environment.
pub(crate) fn secret(file: Option<&Path>, name: &str) -> Result<Option<SecretString>, Failure> {
    let Some(path) = file else { return Ok(variable(name)) };
    let unusable = |why: &dyn std::fmt::Display| Failure::new(format_args!("cannot read {}: {why}", path.display()));
    match read_secret(path) {
        Ok(Some(text)) if !text.trim().is_empty() => Ok(Some(SecretString::from(text.trim()))),
        Ok(Some(_)) => Err(unusable(&"it is empty")),
        Ok(None) => Err(unusable(&"no such file")),
        Err(error) => Err(unusable(&error)),
    }
}

/// The key that opens what is sealed in the database; `from` says where it was found.
pub(crate) fn sealing_key(text: &SecretString, from: &str) -> Result<SealingKey, Failure> {
    SealingKey::from_base64(text.expose_secret()).map_err(|why| Failure::new(format_args!("{from}: {why}")))
}

/// A PostgreSQL URL, as far as that can be seen without connecting; `from` says where it was found.
pub(crate) fn postgres_url(url: SecretString, from: &str) -> Result<SecretString, Failure> {
    let text = url.expose_secret();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(url);
    }
    Err(Failure::new(format_args!(
        "{from} is no PostgreSQL URL: expected postgres://USER:PASSWORD@HOST/DATABASE"
    )))
}
