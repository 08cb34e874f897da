//! The driver in memory: running a flow, and the options of a run.

pub(crate) mod by_visit;
pub(crate) mod flow;
pub(crate) mod nested;
pub(crate) mod options;
pub(crate) mod run;
pub(crate) mod run_in;
pub(crate) mod stream;
