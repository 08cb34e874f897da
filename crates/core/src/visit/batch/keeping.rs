//! The items of a batch that a journal keeps: their ids, the outputs that were recalled, and those that are recorded.
//!
//! **Invariant:** everything that can refuse a batch does so before any of its items runs.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    context::Context,
    execution::Journal,
    outcome::Detour,
    words::{
        codec::Codec,
        error::{NodeError, Result},
        item_key::{Identity, ItemId},
    },
};

/// The ids of the items of a journaled batch, and the codec of their outputs.
pub(crate) struct Keeping<I, O> {
    codec: Codec<O>,
    identity: Identity<I>,
}

impl<I, O: Serialize + DeserializeOwned> Keeping<I, O> {
    pub(crate) fn by(identity: Identity<I>) -> Self {
        Self { codec: Codec::json(), identity }
    }
}

impl<I, O> Keeping<I, O> {
    /// The same for items that are shared.
    pub(crate) fn shared(self) -> Keeping<Arc<I>, O>
    where
        I: 'static,
    {
        Keeping { codec: self.codec, identity: self.identity.shared() }
    }
}

impl<I, O> Clone for Keeping<I, O> {
    fn clone(&self) -> Self {
        Self { codec: self.codec, identity: self.identity.clone() }
    }
}

/// The items of a batch under way whose run has a journal.
pub(super) struct Kept<O> {
    journal: Arc<dyn Journal>,
    codec: Codec<O>,
    ids: Vec<ItemId>,
    /// The outputs that were recalled, and are not taken yet.
    recalled: Mutex<Vec<Option<O>>>,
}

impl<O> Kept<O> {
    /// Begins a batch; `None` if it is not journaled, or its run has no journal.
    pub(super) fn begin<I>(
        keeping: Option<&Keeping<I, O>>,
        items: &[I],
        cx: &Context,
    ) -> Result<Option<Arc<Self>>, Box<Detour>> {
        let Some((keeping, journal)) = keeping.zip(cx.journal().cloned()) else { return Ok(None) };
        let ids = ids(&keeping.identity, items, &*journal, cx)?;
        let recall = |id: &ItemId| -> Result<Option<O>, Box<Detour>> {
            let Some(json) = journal.recall(*id) else { return Ok(None) };
            match (keeping.codec.decode)(&json) {
                Ok(output) => Ok(Some(output)),
                Err(error) => {
                    let refused = |source| cx.not_kept_of(Some(id.index), source);
                    journal.undecodable(*id, error).map_err(refused)?;
                    Ok(None)
                }
            }
        };
        let recalled = ids.iter().map(recall).collect::<Result<_, _>>()?;
        Ok(Some(Arc::new(Self { journal, codec: keeping.codec, ids, recalled: Mutex::new(recalled) })))
    }

    pub(super) fn id(&self, index: usize) -> ItemId {
        self.ids[index]
    }

    /// Takes the output that was recalled for an item.
    pub(super) fn take(&self, item: ItemId) -> Option<O> {
        self.recalled.lock().unwrap_or_else(PoisonError::into_inner)[item.index].take()
    }

    /// Keeps the output of an item, if it can be read back.
    pub(super) async fn record(&self, item: ItemId, output: O, cx: &Context) -> Result<O, Box<Detour>> {
        let kept = self.codec.encode_surely(&output).map_err(|error| cx.failed(NodeError::terminal(error)))?;
        self.journal.record(item, kept).await.map_err(|error| cx.not_kept(error))?;
        Ok(output)
    }
}

/// Tells the items of a batch apart, and lets the journal say whether it knows them.
pub(crate) fn ids<I>(
    identity: &Identity<I>,
    items: &[I],
    journal: &dyn Journal,
    cx: &Context,
) -> Result<Vec<ItemId>, Box<Detour>> {
    let ids = identity.of_all(items.iter()).map_err(|(index, error)| {
        let error = NodeError::terminal(NoKey(error));
        Box::new(Detour::Failed { phase: cx.phase, attempts: 0, item: Some(index), error })
    })?;
    journal.begin_batch(items.len(), identity.is_keyed()).map_err(|error| cx.not_kept(error))?;
    Ok(ids)
}

/// An item, or its key, that cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("the item cannot be told from the others: it, or its key, is no JSON")]
struct NoKey(#[source] serde_json::Error);
