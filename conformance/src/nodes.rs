//! The nodes: what a leaf of a spec does in each phase, and that as each of Flowstone's kinds of node.
//!
//! Item and attempt come from the [`Context`] that the engine gives to `exec`: they are part of what is compared.

use std::{sync::Arc, time::Duration};

use flowstone::{Action, AsyncBatchNode, AsyncNode, BatchNode, Context, Node, NodeError, Result};
use serde_json::Value;

use crate::{
    spec::{FailPhase, Fallback, Leaf},
    state::{State, World},
    trace::{Ev, Event},
    values,
};

/// The code of a leaf, as a [`Node`].
#[derive(Debug)]
pub struct Single(pub Code);

/// The code of a leaf, as an [`AsyncNode`].
#[derive(Debug)]
pub struct AsyncSingle(pub Code);

/// The code of a leaf, as a [`BatchNode`].
#[derive(Debug)]
pub struct Batch(pub Code);

/// The code of a leaf, as an [`AsyncBatchNode`].
#[derive(Debug)]
pub struct AsyncBatch(pub Code);

impl Node<State> for Single {
    type Prep = Cell;
    type Exec = Value;
    type Action = Action;

    fn prep(&self, state: &State) -> Result<Cell> {
        let (visit, value) = self.0.read(state)?;
        Ok(Cell { visit, value })
    }

    fn exec(&self, cell: &Cell, cx: &Context) -> Result<Value> {
        std::thread::sleep(self.0.pause(cell, cx));
        self.0.compute(cell, cx)
    }

    fn exec_fallback(&self, cell: &Cell, error: NodeError, cx: &Context) -> Result<Value> {
        self.0.rescue(cell, error, cx)
    }

    fn post(&self, _: &mut State, cell: Cell, result: Value) -> Result<Action> {
        self.0.finish(&cell.visit, result)
    }
}

impl AsyncNode<State> for AsyncSingle {
    type Prep = Cell;
    type Exec = Value;
    type Action = Action;

    async fn prep(&self, state: &State) -> Result<Cell> {
        let (visit, value) = self.0.read(state)?;
        Ok(Cell { visit, value })
    }

    async fn exec(&self, cell: &Cell, cx: &Context) -> Result<Value> {
        wait(self.0.pause(cell, cx)).await;
        self.0.compute(cell, cx)
    }

    async fn exec_fallback(&self, cell: &Cell, error: NodeError, cx: &Context) -> Result<Value> {
        self.0.rescue(cell, error, cx)
    }

    async fn post(&self, _: &mut State, cell: Cell, result: Value) -> Result<Action> {
        self.0.finish(&cell.visit, result)
    }
}

impl BatchNode<State> for Batch {
    type Item = Cell;
    type Output = Value;
    type Outcome = Value;
    type Action = Action;

    fn prep(&self, state: &State) -> Result<Vec<Cell>> {
        self.0.read_items(state)
    }

    fn exec(&self, cell: &Cell, cx: &Context) -> Result<Value> {
        std::thread::sleep(self.0.pause(cell, cx));
        self.0.compute(cell, cx)
    }

    fn exec_fallback(&self, cell: &Cell, error: NodeError, cx: &Context) -> Result<Value> {
        self.0.rescue(cell, error, cx)
    }

    fn post(&self, state: &mut State, _: Vec<Cell>, results: Vec<Value>) -> Result<Action> {
        self.0.finish(&self.0.current_visit(state), results.into())
    }
}

impl AsyncBatchNode<State> for AsyncBatch {
    type Item = Cell;
    type Output = Value;
    type Outcome = Value;
    type Action = Action;

    async fn prep(&self, state: &State) -> Result<Vec<Cell>> {
        self.0.read_items(state)
    }

    async fn exec(&self, cell: &Cell, cx: &Context) -> Result<Value> {
        wait(self.0.pause(cell, cx)).await;
        self.0.compute(cell, cx)
    }

    async fn exec_fallback(&self, cell: &Cell, error: NodeError, cx: &Context) -> Result<Value> {
        self.0.rescue(cell, error, cx)
    }

    async fn post(&self, state: &mut State, _: Vec<Cell>, results: Vec<Value>) -> Result<Action> {
        self.0.finish(&self.0.current_visit(state), results.into())
    }
}

/// Waits, where there is something to wait for: a timer of no length would still give way to other items.
async fn wait(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// One visit of one leaf.
#[derive(Debug)]
pub struct Visit {
    path: String,
    number: usize,
    index: Arc<[usize]>,
    world: Arc<World>,
}

/// A value on its way to `exec`, with the visit that it came from.
#[derive(Debug)]
pub struct Cell {
    visit: Arc<Visit>,
    value: Value,
}

/// The names from the root flow down, each with whether it is a batch flow.
#[derive(Debug, Clone, Default)]
pub struct Trail(Vec<(String, bool)>);

impl Trail {
    /// Returns the trail of an element one level down.
    #[must_use]
    pub fn below(&self, name: &str, is_batch: bool) -> Self {
        Self(self.0.iter().cloned().chain([(name.to_owned(), is_batch)]).collect())
    }

    /// Returns the names, joined by `/`.
    #[must_use]
    pub fn names(&self) -> String {
        self.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("/")
    }

    /// Returns the path for the item indices of the batch flows in it.
    #[must_use]
    pub fn path(&self, index: &[usize]) -> String {
        let mut index = index.iter();
        let segment = |(name, is_batch): &(String, bool)| match is_batch.then(|| index.next()).flatten() {
            Some(item) => format!("{name}[{item}]"),
            None => name.clone(),
        };
        self.0.iter().map(segment).collect::<Vec<_>>().join("/")
    }
}

/// The code of a leaf in each phase, which tells the record of it.
#[derive(Debug)]
pub struct Code {
    leaf: Leaf,
    trail: Trail,
}

impl Code {
    /// Creates the code of a leaf; `trail` ends with its name.
    #[must_use]
    pub fn new(leaf: Leaf, trail: Trail) -> Self {
        Self { leaf, trail }
    }

    fn read(&self, state: &State) -> Result<(Arc<Visit>, Value)> {
        let path = self.trail.path(state.index());
        let number = state.world().record().begin_visit(&path);
        let visit =
            Arc::new(Visit { path, number, index: Arc::clone(state.index()), world: Arc::clone(state.world()) });
        if self.is_planned(FailPhase::Prep, &visit, None) {
            return Err(visit.fail(visit.event(Ev::Prep), format!("boom prep v{number}")));
        }
        let value = match &self.leaf.prep {
            Some(source) => source.read(&state.world().shared(), state.params()),
            None => Value::Null,
        };
        visit.tell(Event { value: value.clone(), ..visit.event(Ev::Prep) });
        Ok((visit, value))
    }

    fn read_items(&self, state: &State) -> Result<Vec<Cell>> {
        let (visit, value) = self.read(state)?;
        let cell = |value| Cell { visit: Arc::clone(&visit), value };
        Ok(values::sequence(value).into_iter().map(cell).collect())
    }

    /// The visit under way, for a `post` that got no item that could tell it.
    fn current_visit(&self, state: &State) -> Visit {
        let path = self.trail.path(state.index());
        let number = state.world().record().last_visit(&path);
        Visit { path, number, index: Arc::clone(state.index()), world: Arc::clone(state.world()) }
    }

    fn pause(&self, cell: &Cell, cx: &Context) -> Duration {
        let pauses = &self.leaf.sleep_ms;
        let position = cx.item().unwrap_or(cell.visit.number);
        let pause = position.checked_rem(pauses.len()).map_or(0, |position| pauses[position]);
        Duration::from_millis(pause.into())
    }

    fn compute(&self, cell: &Cell, cx: &Context) -> Result<Value> {
        let visit = &cell.visit;
        let event = Event { item: cx.item(), attempt: Some(cx.attempt()), ..visit.event(Ev::Exec) };
        if self.is_planned(FailPhase::Exec, visit, Some(cx)) {
            let message = format!("boom v{}{} a{}", visit.number, of_item(cx), cx.attempt());
            return Err(visit.fail(event, message));
        }
        let value = values::call(&self.leaf.exec, &cell.value);
        visit.tell(Event { value: value.clone(), ..event });
        Ok(value)
    }

    fn rescue(&self, cell: &Cell, error: NodeError, cx: &Context) -> Result<Value> {
        let visit = &cell.visit;
        let event = Event { item: cx.item(), ..visit.event(Ev::Fallback) };
        let value = match &self.leaf.fallback {
            None => return Err(error),
            Some(Fallback::Fail(_)) => {
                return Err(visit.fail(event, format!("boom fallback v{}{}", visit.number, of_item(cx))));
            }
            Some(Fallback::Echo(_)) => error.to_string().into(),
            Some(Fallback::Value(value)) => value.clone(),
        };
        visit.tell(Event { value: value.clone(), ..event });
        Ok(value)
    }

    fn finish(&self, visit: &Visit, result: Value) -> Result<Action> {
        if self.is_planned(FailPhase::Post, visit, None) {
            let event = Event { value: result, ..visit.event(Ev::Post) };
            return Err(visit.fail(event, format!("boom post v{}", visit.number)));
        }
        if let Some(write) = &self.leaf.post {
            values::write(&mut visit.world.shared(), write, &result);
        }
        let actions = &self.leaf.actions;
        let position = visit.number.checked_rem(actions.len());
        let action = position.map(|position| actions[position].0.clone()).unwrap_or_default();
        visit.tell(Event { value: result, action: Some(action.to_string()), ..visit.event(Ev::Post) });
        Ok(action)
    }

    /// Returns `true` if the spec plans a failure here; `cx` is that of the attempt, for `exec`.
    fn is_planned(&self, phase: FailPhase, visit: &Visit, cx: Option<&Context>) -> bool {
        let (item, attempt) = (cx.and_then(Context::item), cx.map(Context::attempt));
        self.leaf.fail.iter().any(|rule| {
            rule.phase == phase
                && rule.visit.is_none_or(|number| number == visit.number)
                && rule.index.as_ref().is_none_or(|index| **index == *visit.index)
                && rule.item.is_none_or(|number| Some(number) == item)
                && rule.attempts.as_ref().is_none_or(|attempts| attempt.is_some_and(|a| attempts.contains(&a)))
        })
    }
}

impl Visit {
    fn event(&self, ev: Ev) -> Event {
        let (path, visit) = (self.path.clone(), self.number);
        Event { ev, path, visit, item: None, attempt: None, value: Value::Null, error: None, action: None }
    }

    fn tell(&self, event: Event) {
        self.world.record().push(event);
    }

    fn fail(&self, event: Event, message: String) -> NodeError {
        self.tell(Event { error: Some(message.clone()), ..event });
        NodeError::new(message)
    }
}

/// The part of a message that names the item.
fn of_item(cx: &Context) -> String {
    cx.item().map_or_else(String::new, |item| format!(" i{item}"))
}
