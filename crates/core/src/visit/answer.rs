//! Answers to the questions of nodes, and of the children that nodes run.

use serde_json::Value;

use crate::{
    context::Context,
    execution::RestoreError,
    node::State,
    outcome::{Detour, Visit},
    visit::{Definition, complete},
    words::{
        error::RunError,
        event::EventKind,
        guard::Panicked,
        path::{NodePath, Position},
        pause::{Pause, Reply},
    },
};

impl<S: State> Definition<S> {
    /// Goes on with a visit that ended in a pause.
    pub(crate) fn answer(
        &self,
        pause: Pause,
        reply: Reply,
        shared: &mut S,
        cx: &mut Context,
    ) -> Result<Visit, RunError> {
        let at = pause.position();
        let asks = self.graph.name() == pause.0.run.flow
            && self.graph.nodes.get(at.index()).is_some_and(|node| cx.below(&node.path) == *pause.node());
        let Some(body) = self.slots.get(at.index()).and_then(|slot| slot.body.sync.as_ref()).filter(|_| asks) else {
            return Err(RunError::NoSuchPause { run: cx.run_id(), flow: self.graph.name().to_owned(), pause });
        };
        // The context may be a new one, of another process: keys, events and errors are those of the visit that asked.
        cx.take_over(&pause.0.run);
        cx.check_run()?;
        if matches!(reply, Reply::Expired) {
            cx.event(|| EventKind::Expired);
        }
        let visited = match Panicked::catch(|| body.answer(shared, reply, cx)) {
            Err(panicked) => Err(panicked.into()),
            Ok(Some(visited)) => visited,
            Ok(None) => {
                return Err(RunError::NoSuchPause { run: cx.run_id(), flow: self.graph.name().to_owned(), pause });
            }
        };
        match visited.map_err(|detour| *detour) {
            Err(Detour::Unfit(source)) => Err(RunError::Answer { run: cx.run_id(), pause, source }),
            visited => complete(self.end(at, visited.map_err(Box::new), cx)),
        }
    }

    /// Says whether an answer fits the question of a node, without giving it.
    pub(crate) fn fits(&self, at: Position, answer: &Value) -> Result<(), serde_json::Error> {
        let fits = || self.slots.get(at.index()).and_then(|slot| slot.body.sync.as_ref()?.fits(answer));
        match Panicked::catch(fits) {
            Ok(Some(fits)) => fits,
            Ok(None) => Err(serde::de::Error::custom("this node asks nothing")),
            Err(panicked) => Err(serde::de::Error::custom(format_args!("the decoder of the answer {panicked}"))),
        }
    }

    /// Says whether an answer fits the question of a node, which may be one of a child.
    pub(crate) fn fits_at(&self, path: &NodePath, answer: &Value) -> Result<(), serde_json::Error> {
        if let Some(at) = self.graph.position(path.as_str()) {
            return self.fits(at, answer);
        }
        let inside = path.into_child().find_map(|(outer, _, inner)| {
            let body = &self.slots[self.graph.position(outer.as_str())?.index()].body;
            let sync = || body.sync.as_ref()?.fits_inside(&inner, answer);
            body.awaited.as_ref().and_then(|body| body.fits_inside(&inner, answer)).or_else(sync)
        });
        let flow = self.graph.name();
        inside.unwrap_or_else(|| Err(serde::de::Error::custom(format!("flow `{flow}` has no such node any more"))))
    }

    /// Says whether a child that is kept, given by the path of its node, could go on with a state; `None` if no node
    /// could have such a child. The child of an `exec` is known only when the `exec` calls for it.
    pub(crate) fn takes_inside(&self, path: &NodePath, state: &[u8]) -> Option<Result<(), RestoreError>> {
        let mut unknown = None;
        let known = path.into_child().find_map(|(outer, _, inner)| {
            let body = &self.slots[self.graph.position(outer.as_str())?.index()].body;
            unknown = Some(Ok(()));
            body.awaited.as_ref()?.takes_inside(&inner, state)
        });
        known.or(unknown)
    }
}
