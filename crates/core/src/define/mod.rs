//! From what users write to a checked flow.

pub(crate) mod add;
pub(crate) mod ask;
pub(crate) mod build;
pub(crate) mod fault;
pub(crate) mod nest;
pub(crate) mod sleep;
pub(crate) mod step;
