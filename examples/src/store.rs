//! Opening a store again right after the process that drove it was killed.

use std::{path::Path, time::Duration};

use flowstone::durable::{OpenError, Store};

/// Opens a store; if another process drives it, waits a second for that one, which may have been killed and not be gone
/// yet: `kill -9` returns before the system has let go of what the process held.
///
/// # Errors
///
/// If another process drives the store, it is no store, or it cannot be used.
pub async fn open(path: &Path) -> Result<Store, OpenError> {
    for _ in 0..20 {
        match Store::open(path).await {
            Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            opened => return opened,
        }
    }
    Store::open(path).await
}
