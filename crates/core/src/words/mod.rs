//! Plain values and their rules, each known by itself. The layers above speak in them.

pub(crate) mod action;
pub(crate) mod clock;
pub(crate) mod codec;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod guard;
pub(crate) mod item_key;
pub(crate) mod path;
pub(crate) mod pause;
pub(crate) mod route;
#[cfg(feature = "schema")]
pub(crate) mod schema;
pub(crate) mod usage;
