//! The actions with which a flow can end, as far as its labels and edges tell.

use std::collections::BTreeSet;

use crate::{
    graph::{Astray, Graph, Place, Unrouted},
    outcome::Visit,
    words::action::Action,
};

/// The ways in which a flow can end.
#[derive(Clone, Debug)]
pub(crate) enum Exits {
    Closed(BTreeSet<Action>),
    /// Any action: some node with string actions decides.
    Open,
}

impl Graph {
    /// The actions with which this flow can end.
    pub(crate) fn exits(&self) -> Exits {
        let mut exits = BTreeSet::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let place = Place::Node(index);
            let named = node.about.labels.iter().map(|label| Action::from(*label));
            let named: Vec<Action> =
                if node.about.labels.is_empty() { node.edges.labels().cloned().collect() } else { named.collect() };
            for action in named {
                match self.follow(place, action) {
                    Ok(Visit::End { exit, .. }) => drop(exits.insert(exit)),
                    // The result of its `map_exit` is unknown; a run that comes here fails.
                    Err(Astray::Panicked(_)) => return Exits::Open,
                    _ => {}
                }
            }
            if node.about.labels.is_empty() && !self.any_exit(place, &mut exits) {
                return Exits::Open;
            }
        }
        Exits::Closed(exits)
    }

    /// Follows an unknown action of a place upwards; `false` if it can end the flow.
    fn any_exit(&self, place: Place, exits: &mut BTreeSet<Action>) -> bool {
        let (edges, level) = self.edges(place);
        if !edges.is_empty() && self.levels[level].unrouted == Unrouted::Error {
            return true;
        }
        let labels: Vec<Action> = match &self.levels[level].exits {
            Some(exits) if !exits.labels.is_empty() => exits.labels.iter().map(|label| Action::from(*label)).collect(),
            _ if self.levels[level].parent.is_none() => return false,
            _ => {
                let outer = Place::Level(level);
                let labels: Vec<Action> = self.edges(outer).0.labels().cloned().collect();
                self.add_exits(outer, labels, exits);
                return self.any_exit(outer, exits);
            }
        };
        match self.levels[level].parent {
            None => exits.extend(labels),
            Some(_) => self.add_exits(Place::Level(level), labels, exits),
        }
        true
    }

    fn add_exits(&self, place: Place, actions: Vec<Action>, exits: &mut BTreeSet<Action>) {
        exits.extend(actions.into_iter().filter_map(|action| match self.follow(place, action) {
            Ok(Visit::End { exit, .. }) => Some(exit),
            _ => None,
        }));
    }
}
