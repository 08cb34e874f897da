//! The handle of a store, which stops the store when the last user drops it.

use std::sync::Arc;

use flowstone_core::CancellationToken;

use crate::drive::shared::Shared;

/// A handle that users hold. The tasks of the store hold none, so that dropping the last handle can stop them.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    /// Cancelled when the writer has given up the file.
    pub(super) ended: CancellationToken,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}
