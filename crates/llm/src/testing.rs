//! Models for tests: a script, and what a model once replied.

pub(crate) mod cassette;
pub(crate) mod scripted;
