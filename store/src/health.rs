//! Whether the database takes writes, found out without writing. It refuses to know tables.

use crate::engine::Store;
use crate::error::{Result, StoreError};
use crate::statement::sql;

impl Store {
    /// Whether it would take a write at this moment: a standby, or a server that was made read-only, answers every read as before.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`]; those of any read.
    pub async fn check_writable(&self) -> Result<()> {
        if self.server().is_none() {
            return if self.keys().is_some() {
                Ok(())
            } else {
                Err(StoreError::ReadOnly("it was opened for reading only".into()))
            };
        }
        let text = "SELECT current_setting('transaction_read_only') AS read_only";
        let row = sql!(self.read().await?, one, text)?;
        match row.text("read_only")?.as_str() {
            "off" => Ok(()),
            _ => Err(StoreError::ReadOnly(
                "the server takes no writes (transaction_read_only is on): point the database URL at the primary".into(),
            )),
        }
    }
}
