//! Places for waiting runs: the terms on which a run goes on, and giving free places to those whose turn it is.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    drive::{shared::Shared, turns},
    flows::any_flow::AnyFlow,
    records::{
        load::{Standing, standing},
        reader::Reader,
        turns::{Due, Terms, Wanted},
    },
    words::error::{DriveError, ReadError},
};

/// The number of waiting runs that are looked at in one go, if no limit says how many there is room for.
const PAGE: usize = 1000;

impl Shared {
    /// Returns `true` if the number of runs of a flow that are driven at once is limited.
    pub(crate) fn is_limited(&self, flow: &dyn AnyFlow) -> bool {
        self.options.concurrency.is_some() || flow.concurrency().is_some()
    }

    /// Returns the terms on which a run without a place is taken up.
    pub(crate) fn terms(&self, flow: &dyn AnyFlow) -> Terms {
        let (is_limited, max_resumes) = (self.is_limited(flow), flow.max_resumes());
        Terms { is_placed: false, is_limited, died: self.died, max_resumes, since: None }
    }

    /// Returns `true` if the store has to be changed before a run goes on: a note of a refusal is to be deleted, the
    /// run may have to wait, or a death is to be counted.
    pub(crate) fn is_taken_up(&self, standing: &Standing, terms: Terms) -> bool {
        let known = standing.epoch.is_some_and(|epoch| epoch == self.epoch || !self.died);
        standing.refused || standing.queued || standing.suspect || terms.is_placed || terms.is_limited || !known
    }

    /// Returns the terms on which a run is taken up, if the store has to be changed first. The run is then read back,
    /// too.
    pub(crate) fn is_asked(&self, reader: &Reader, run: i64) -> Result<Option<Terms>, DriveError> {
        let Some(head) = standing(&reader.db, run)? else { return Ok(None) };
        let Some(flow) = self.flows.get(&head.flow_name) else {
            return Err(DriveError::UnknownFlow { flow: head.flow_name });
        };
        let terms = self.terms(&*flow);
        if !self.is_taken_up(&head, terms) {
            return Ok(None);
        }
        // A run that waits already was read back before.
        if !head.queued {
            self.flows.check(reader, run)?;
        }
        Ok(Some(terms))
    }

    /// Returns the error of a run that has just failed because its process died too often.
    pub(crate) fn why_failed(&self, reader: &Reader, run: i64) -> Result<DriveError, ReadError> {
        let info = reader.info(run)?.ok_or_else(|| ReadError::UnknownRun { run: format!("#{run}").into() })?;
        let (run, deaths) = (info.id, info.error.as_ref().and_then(|error| error.deaths).unwrap_or_default());
        let node = info.error.map(|error| error.node).or(info.node).unwrap_or_else(|| "".into());
        Ok(DriveError::KillsItsProcess { run, node, deaths })
    }

    /// Returns the flows that have room for another run, each with the number of waiting runs to look at.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let placed = self.turns.placed();
        let all: usize = placed.values().sum();
        let room = self.options.concurrency.map_or(PAGE, |limit| limit.saturating_sub(all));
        let mut wanted = Vec::new();
        for stored in self.flows.names(None) {
            let Some(flow) = self.flows.get(&stored) else { continue };
            let own = placed.get(flow.name()).copied().unwrap_or_default();
            let room = flow.concurrency().map_or(room, |limit| limit.saturating_sub(own).min(room)).min(PAGE);
            if room > 0 {
                // Runs that have a place but have not begun yet are found, too, so their number is added.
                let page = if self.is_limited(&*flow) { room + own } else { PAGE };
                wanted.push(Wanted { stored, flow: flow.name().to_owned(), page });
            }
        }
        wanted
    }

    /// Gives places to the waiting runs whose turn it is, and drives them; returns `true` if there may be more.
    pub(crate) fn give_places(self: &Arc<Self>, mut due: Due) -> bool {
        // A run that is driven already is still found until the store says that it no longer waits.
        due.runs.values_mut().for_each(|runs| runs.retain(|due| !self.is_active(due.run)));
        let (all, limit) = (self.options.concurrency, |flow: &str| self.flows.get(flow)?.concurrency());
        let placed = self.turns.placed();
        let room = |flow: &str, placed: &BTreeMap<String, usize>| {
            let own = placed.get(flow).copied().unwrap_or_default();
            limit(flow).is_none_or(|limit| own < limit) && all.is_none_or(|all| placed.values().sum::<usize>() < all)
        };
        let suspect = due.suspects.iter().filter(|(flow, _)| room(flow, &placed)).min_by_key(|(_, suspect)| **suspect);
        if let Some((flow, (_, run))) = suspect
            && self.turns.takes_suspect()
            && !self.is_active(*run)
        {
            self.take(*run, self.turns.place(*run, flow, true));
        }
        let chosen = turns::choose(due.runs, self.turns.placed(), limit, all);
        for (flow, due) in &chosen {
            self.take(due.run, self.turns.place(due.run, flow, false));
        }
        due.is_full && !chosen.is_empty()
    }
}
