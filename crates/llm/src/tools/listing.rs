//! Lists of tools that change while a flow runs: [`Tools::renewed`].
//!
//! A server offers a list of tools, and may say later that its list is another now. An agent then goes on with the list
//! as it is: what was added is offered, what is gone is not.
//!
//! **Invariant:** what the program left out stays out: a tool that the server offered when the set was made and that is
//! not in the set, and every tool that [`Tools::only`] does not name.

use std::{collections::BTreeSet, sync::Arc};

use flowstone_core::{BoxFuture, Context, Result};

use super::{Entry, Tool, Tools, check, outcome::with_causes};

/// A list of tools as its server gave it.
pub trait Listing: Send + Sync + 'static {
    /// Returns `true` if a tool of this name was in the list.
    fn offered(&self, name: &str) -> bool;

    /// Returns `true` once the server has said that its list is another now.
    fn is_old(&self) -> bool;

    /// Tells a run that the list has changed, or why the new one cannot be had.
    fn tell(&self, fault: Option<&str>, cx: &Context);

    /// Asks the server for its list as it is now.
    fn again(&self) -> BoxFuture<'_, Result<NewList>>;
}

/// A list that a server gave anew, and its tools.
pub(crate) type NewList = (Arc<dyn Listing>, Vec<Arc<dyn Tool>>);

/// A list that tools of a set come from.
#[derive(Clone)]
pub(super) struct Listed {
    listing: Arc<dyn Listing>,
    /// The names that `only` keeps; `None` if it was not called.
    only: Option<Arc<BTreeSet<String>>>,
}

impl Listed {
    fn takes(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

impl Tools {
    /// Notes the list that a tool comes from.
    pub(super) fn note_listing(&mut self, tool: &dyn Tool) {
        let Some(listing) = tool.listing() else { return };
        if !self.lists.iter().any(|list| is_same(&list.listing, &listing)) {
            self.lists.push(Listed { listing, only: None });
        }
    }

    /// Notes that only these names are kept of the tools that have been added so far.
    pub(super) fn note_only(&mut self, names: &BTreeSet<String>) {
        for list in &mut self.lists {
            let kept = names.iter().filter(|name| list.takes(name)).cloned().collect();
            list.only = Some(Arc::new(kept));
        }
    }

    /// Returns `true` if some of them come from a server, whose list may change.
    pub(crate) fn may_change(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Returns the set with the lists of their servers as they are now; `None` if no server has said that its list has
    /// changed. A list that cannot be had stays as it was, and is asked for again the next time.
    pub(crate) async fn renewed(&self, cx: &Context) -> Option<Self> {
        let mut renewed = None;
        for place in 0..self.lists.len() {
            let list = &self.lists[place];
            if !list.listing.is_old() {
                continue;
            }
            match list.listing.again().await {
                Ok((listing, offered)) => {
                    list.listing.tell(None, cx);
                    let tools = renewed.get_or_insert_with(|| self.clone());
                    let new = Listed { listing, only: list.only.clone() };
                    tools.exchange(list, &new, offered);
                    tools.lists[place] = new;
                }
                Err(error) => list.listing.tell(Some(&with_causes(error.source_ref())), cx),
            }
        }
        renewed
    }

    /// Puts the tools of a new list in place of those of the old one.
    fn exchange(&mut self, old: &Listed, new: &Listed, offered: Vec<Arc<dyn Tool>>) {
        let before = Arc::clone(&self.entries);
        let is_old = |entry: &Entry| entry.tool.listing().is_some_and(|listing| is_same(&listing, &old.listing));
        let entries = Arc::make_mut(&mut self.entries);
        entries.retain(|_, entry| !is_old(entry));
        for tool in offered {
            let (name, mut entry) = Entry::of(tool);
            let was = before.get(&name).filter(|entry| is_old(entry));
            let left_out = was.is_none() && old.listing.offered(&name);
            // The name may be that of a tool from elsewhere, which was there first.
            let taken = entries.contains_key(&name);
            // A tool that is wrong cannot be called, and a service would refuse all for it.
            if left_out || taken || !new.takes(&name) || check::faults(&name, &entry, self.timeout).next().is_some() {
                continue;
            }
            entry.timeout = was.and_then(|entry| entry.timeout);
            entries.insert(name, entry);
        }
    }
}

fn is_same(one: &Arc<dyn Listing>, other: &Arc<dyn Listing>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}
