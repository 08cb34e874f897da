//! The form that a phase should have, for messages: in the words of the user's own types, where they are known.

use super::Reader;
use crate::{
    node::Shape,
    types::{shown, vec_element},
};

impl Reader<'_> {
    pub(super) fn no_state(&self, phase: &str) -> String {
        let state = self.shown_state();
        format!(
            "`{phase}` never sees the state, which is what lets it be tried again: let \
             `fn prep(&self, state: &{state})` return what it needs"
        )
    }

    pub(super) fn shown_state(&self) -> String {
        self.state.map_or_else(|| "State".to_owned(), shown)
    }

    pub(super) fn shown_prep(&self) -> String {
        let given = self.methods.prep.as_ref().map(|prep| shown(&prep.output.ty)).filter(|ty| ty != "()");
        given.unwrap_or_else(|| if self.shape == Shape::Batch { "Vec<Item>" } else { "P" }.to_owned())
    }

    pub(super) fn shown_exec(&self) -> String {
        let made = self.methods.exec.as_ref().map(|exec| shown(&exec.output.ty)).filter(|ty| ty != "()");
        made.unwrap_or_else(|| if self.shape == Shape::Batch { "Output" } else { "E" }.to_owned())
    }

    /// The parameter of `exec` for what `prep` gave, with a comma after it; nothing where there is no `prep`.
    pub(super) fn exec_param(&self) -> String {
        match (&self.methods.prep, self.shape) {
            (Some(prep), Shape::Batch) => {
                format!("item: &{}, ", vec_element(&prep.output.ty).map_or_else(|| "Item".to_owned(), shown))
            }
            (None, Shape::Batch) => "item: &Item, ".to_owned(),
            (Some(prep), Shape::Single) => format!("prep: &{}, ", shown(&prep.output.ty)),
            (None, Shape::Single) => String::new(),
        }
    }

    pub(super) fn exec_form(&self) -> String {
        format!("fn exec(&self, {}cx: &Context) -> {}", self.exec_param(), self.shown_exec())
    }

    pub(super) fn fallback_form(&self) -> String {
        let param = self.exec_param();
        format!("fn exec_fallback(&self, {param}error: NodeError, cx: &Context) -> {}", self.shown_exec())
    }

    pub(super) fn post_form(&self) -> String {
        let (state, prep, exec) = (self.shown_state(), self.shown_prep(), self.shown_exec());
        let start = format!("fn post(&self, state: &mut {state}");
        match (&self.methods.prep, &self.methods.exec, self.shape) {
            (_, _, Shape::Batch) => format!(
                "`&self`, the state, the items where wanted, and the outcomes: \
                 `{start}, items: {prep}, outcomes: Vec<{exec}>) -> A`"
            ),
            (Some(_), Some(_), _) => {
                format!(
                    "`&self`, the state, what `prep` gave and what `exec` made: `{start}, prep: {prep}, exec: {exec}) -> A`"
                )
            }
            (Some(_), None, _) => format!("`&self`, the state and what `prep` gave: `{start}, prep: {prep}) -> A`"),
            (None, Some(_), _) => format!("`&self`, the state and what `exec` made: `{start}, exec: {exec}) -> A`"),
            (None, None, _) => format!("`&self` and the state, since there is no other phase: `{start}) -> A`"),
        }
    }
}
