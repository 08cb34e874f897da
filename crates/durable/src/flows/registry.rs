//! The registry of a store's flows, by their names and former names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use crate::{flows::any_flow::AnyFlow, words::guard::lock};

/// The flows that are registered with a store, by name.
#[derive(Default)]
pub(crate) struct Flows(Mutex<BTreeMap<String, Arc<dyn AnyFlow>>>);

impl Flows {
    pub(crate) fn insert(&self, flow: Arc<dyn AnyFlow>) {
        lock(&self.0).insert(flow.name().to_owned(), flow);
    }

    /// Returns the flow of the runs that are stored under a name: the flow of that name, or else one that had it
    /// before.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn AnyFlow>> {
        let flows = lock(&self.0);
        let had_it = || flows.values().find(|flow| flow.before().iter().any(|before| before == name));
        flows.get(name).or_else(had_it).cloned()
    }

    /// Returns the names under which the store may have runs of one flow, or of all.
    pub(crate) fn names(&self, only: Option<&str>) -> Vec<String> {
        let flows: Vec<_> = lock(&self.0).values().cloned().collect();
        let mut names = BTreeSet::new();
        for flow in flows.iter().filter(|flow| only.is_none_or(|name| flow.name() == name)) {
            let is_its = |name: &&String| self.get(name).is_some_and(|found| found.name() == flow.name());
            names.extend(flow.before().iter().filter(is_its).cloned());
            names.insert(flow.name().to_owned());
        }
        names.into_iter().collect()
    }
}
