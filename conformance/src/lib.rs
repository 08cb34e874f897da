//! Flowstone as an implementation of the conformance kit: a flow described as JSON in, a trace of its run out.
//!
//! In the order in which a spec goes through them:
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | what a spec consists of, and reading one |
//! | `check` | the rules of a spec that its types do not say |
//! | [`values`] | coercions, functions of `exec`, writes of `post` |
//! | [`state`] | the state of a run: parameters, and a handle to what all children share |
//! | [`nodes`] | the nodes: what a spec's leaf does in each phase, as each of Flowstone's kinds of node |
//! | [`build`](mod@build) | from a spec to a flow, by Flowstone's public API alone |
//! | [`run`] | running it |
//! | [`trace`] | what happened |
//! | [`normalize`] | the one form in which traces are compared |
//!
//! # Invariants
//!
//! - What happens is told by the nodes themselves and by the result of the run; nothing here knows how a run goes.
//! - Every value is accepted by every function, so a run fails only where its spec plans it.

pub mod build;
mod check;
pub mod nodes;
pub mod normalize;
pub mod run;
pub mod spec;
pub mod state;
pub mod trace;
pub mod values;
