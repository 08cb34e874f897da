//! A store that this process drives: its writer, its flows, and what watches it.

use std::{fmt, path::Path, sync::Arc};

use flowstone_core::{AsyncFlow, CancellationToken, Label, State};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, OpenError},
    options::{FlowOptions, StoreOptions},
    prune::{Prune, Pruned},
    reader::Reader,
    runs::{Resumed, Runs},
    shared::Shared,
    watch,
    writer::{self, Driven},
};

/// A file of runs, driven by this process: it alone makes visits of them.
///
/// Cheap to clone. When the last clone, [`Runs`] and [`Run`](crate::Run) of it is dropped, its runs are stopped where they are, and
/// can be resumed by whoever opens it next; [`close`](Self::close) waits for that.
///
/// # Example
///
/// ```
/// use flowstone_core::AsyncFlow;
/// use flowstone_durable::Store;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("jobs.db");
/// let mut sum = AsyncFlow::builder("sum");
/// let add = sum.add("add", |n: &mut u32| *n += 1);
/// sum.start(add);
/// let mut shout = AsyncFlow::builder("shout");
/// let upper = shout.add("upper", |text: &mut String| *text = text.to_uppercase());
/// shout.start(upper);
///
/// let store = Store::open(&path).await?;
/// let sums = store.runs(sum.build()?).await?;
/// let shouts = store.runs(shout.build()?).await?;
/// store.resume_all().await?; // what an earlier process left unfinished
///
/// assert_eq!(sums.start("a", 1).await?.finished().await?.state, 2);
/// assert_eq!(shouts.start("b", "hi".to_owned()).await?.finished().await?.state, "HI");
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) handle: Arc<Handle>,
}

/// What users hold; the tasks of the store do not, so that the last one to go can stop them.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    /// Cancelled when the writer has given up the file.
    ended: CancellationToken,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.handle.shared.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store to drive it, with default [options](StoreOptions); it is made if it is not there, and upgraded if an
    /// older version wrote it.
    ///
    /// # Errors
    ///
    /// If another process drives it, it is no store, or it cannot be used.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        StoreOptions::new().open(path).await
    }

    pub(crate) async fn open_with(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let Driven { writer, path, files, ended } =
            writer::open(path, options.vfs.clone(), options.on_write.clone()).await?;
        let shared = Shared::new(path, files, options, writer);
        shared.tasks.spawn(watch::inbox(Arc::clone(&shared)));
        shared.tasks.spawn(watch::wakes(Arc::clone(&shared)));
        Ok(Self { handle: Arc::new(Handle { shared, ended }) })
    }

    /// Registers a flow, and gives its runs. Of two flows with one name, the second takes the place of the first.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn runs<S, X>(&self, flow: impl Into<AsyncFlow<S, X>>) -> Result<Runs<S>, Error>
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        self.runs_with(flow, FlowOptions::new()).await
    }

    /// Registers a flow with options: the version of its state, and how to go on with runs of older ones.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn runs_with<S, X>(
        &self,
        flow: impl Into<AsyncFlow<S, X>>,
        options: FlowOptions,
    ) -> Result<Runs<S>, Error>
    where
        S: State + Serialize + DeserializeOwned,
        X: Label,
    {
        Runs::register(self, flow.into(), options).await
    }

    /// Goes on with the runs of all registered flows that are neither parked nor at an end.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn resume_all(&self) -> Result<Resumed, Error> {
        watch::resume_all(&self.handle.shared, None).await
    }

    /// Deletes runs that are at an end, and makes the file smaller.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub async fn prune(&self, prune: &Prune) -> Result<Pruned, Error> {
        crate::prune::prune(&self.handle.shared, prune).await
    }

    /// Opens the store for reading beside this driver: its runs of all flows, children included.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn reader(&self) -> Result<Reader, OpenError> {
        self.handle.shared.reader()
    }

    /// Stops all runs where they are, and closes the file. Other clones get
    /// [`StoreFault::Closed`](crate::StoreFault::Closed).
    pub async fn close(&self) {
        let shared = &self.handle.shared;
        shared.closing.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        shared.readers.close().await;
        shared.writer.close().await;
        self.handle.ended.cancelled().await;
    }
}
