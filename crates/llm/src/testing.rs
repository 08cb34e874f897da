//! Models for tests: a script, and recorded replies of a model.

pub(crate) mod cassette;
pub(crate) mod scripted;
