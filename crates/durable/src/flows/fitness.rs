//! The check that a flow, as it is now, can take a stored run and its children, before anything of them is changed.
//!
//! Children are checked together with the run that the user started: only that run is driven, and it would find its
//! children no sooner than in its visit.

use std::sync::Arc;

use flowstone_core::{NodePath, Usage};

use crate::{
    flows::{
        any_flow::{AnyFlow, Hooks},
        registry::Flows,
    },
    records::{
        load::{KnownChild, Loaded, load},
        parked,
        reader::Reader,
    },
    words::{
        error::{DriveError, ReadError},
        guard::drop_quietly,
        status::Status,
    },
};

/// A run that the user started and that its flow takes. Its children are not checked yet.
pub(crate) struct Fit {
    loaded: Loaded,
    flow: Arc<dyn AnyFlow>,
}

/// The run that the user started, as its children need it.
struct Root<'a> {
    reader: &'a Reader,
    flow: &'a dyn AnyFlow,
    loaded: &'a Loaded,
    /// The statuses in which children are checked although they are not taken up at once.
    waiting: &'a [Status],
}

impl Flows {
    /// Checks that a run and its children could go on with its flow as that is now. Nothing is changed.
    ///
    /// A run that has ended in the meantime does not go on, so no flow refuses it.
    pub(crate) fn check(&self, reader: &Reader, run: i64) -> Result<(), DriveError> {
        let loaded = loaded(reader, run)?;
        if loaded.status == Status::Ended {
            return Ok(());
        }
        let Fit { loaded, flow } = self.fit(loaded)?;
        let waiting = &[Status::Paused, Status::Sleeping];
        Root { reader, flow: &*flow, loaded: &loaded, waiting }.children(&loaded, "")
    }

    /// Checks that a run or a child could go on, with the runs around it; the outermost of them was checked already.
    pub(crate) fn check_line(&self, reader: &Reader, Fit { loaded, flow }: &Fit, run: i64) -> Result<(), DriveError> {
        Root { reader, flow: &**flow, loaded, waiting: &[] }.line(run)
    }

    /// Checks the children of a run that are taken up when it goes on.
    pub(crate) fn check_open(&self, reader: &Reader, flow: &dyn AnyFlow, loaded: &Loaded) -> Result<(), DriveError> {
        Root { reader, flow, loaded, waiting: &[] }.children(loaded, "")
    }

    /// Checks a run that the user started as [`check`](Self::check) does, without its children.
    pub(crate) fn check_alone(&self, reader: &Reader, run: i64) -> Result<Fit, DriveError> {
        self.fit(loaded(reader, run)?)
    }

    fn fit(&self, mut loaded: Loaded) -> Result<Fit, DriveError> {
        let Some(flow) = self.get(&loaded.flow_name) else {
            return Err(DriveError::UnknownFlow { flow: loaded.flow_name });
        };
        let execution = flow.restore(&loaded, Usage::default(), &Hooks::default())?;
        drop_quietly(execution);
        flow.migrate_items(&mut loaded)?;
        if let (Some(mut asked), Some(node)) = (loaded.asked.take(), &loaded.next) {
            asked.migrate(&*flow, &loaded.id, node)?;
        }
        Ok(Fit { loaded, flow })
    }
}

fn loaded(reader: &Reader, run: i64) -> Result<Loaded, ReadError> {
    load(&reader.db, run, 1)?.ok_or_else(|| ReadError::UnknownRun { run: format!("#{run}").into() })
}

impl Root<'_> {
    /// Checks those children of a visit under way that are taken up or wait, and their children.
    fn children(&self, of: &Loaded, prefix: &str) -> Result<(), DriveError> {
        let Some(node) = &of.next else { return Ok(()) };
        // A child is younger than its parent; without this check a damaged store could lead in a circle.
        for child in of.under_way.children.iter().filter(|child| child.run > of.run && self.takes_up(child.status)) {
            let KnownChild { run, item, .. } = child;
            let prefix = format!("{prefix}{node}[{}]/", item.index);
            if let Some(loaded) = self.child(*run, &prefix)? {
                self.children(&loaded, &prefix)?;
            }
        }
        Ok(())
    }

    fn takes_up(&self, status: Status) -> bool {
        match status {
            Status::Running | Status::Failed => true,
            // Such a child is taken up if the run is tried again; otherwise its item has left the list.
            Status::Cancelled => self.loaded.under_way.retried || self.loaded.status.is_final(),
            status => self.waiting.contains(&status),
        }
    }

    /// Checks a child, and the children around it.
    fn line(&self, run: i64) -> Result<(), DriveError> {
        let around = parked::around(&self.reader.db, run)?;
        let line = std::iter::once(run).chain(around.into_iter().map(|(run, _)| run));
        for run in line.filter(|run| *run != self.loaded.run) {
            self.child(run, &parked::prefix(&self.reader.db, run)?)?;
        }
        Ok(())
    }

    /// Checks one child; `None` if it no longer exists, or is at its end.
    fn child(&self, run: i64, prefix: &str) -> Result<Option<Loaded>, DriveError> {
        let Some(mut loaded) = load(&self.reader.db, run, 1)? else { return Ok(None) };
        let Some(next) = &loaded.next else { return Ok(None) };
        let (root, node) = (&self.loaded.id, NodePath::from(format!("{prefix}{next}")));
        self.flow.takes_child((root, self.loaded.flow), &node, loaded.seq, loaded.chain.state())?;
        if let Some(mut asked) = loaded.asked.take() {
            asked.migrate(self.flow, root, &node)?;
        }
        Ok(Some(loaded))
    }
}
