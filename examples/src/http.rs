//! HTTP/1.1 over hyper, as the examples need it: short questions, short answers.
//!
//! | module | what it holds |
//! |---|---|
//! | [`client`] | one request, and its answer as a whole |
//! | [`server`] | a service on a port of this machine, which is a function from a request to a reply |

pub mod client;
pub mod server;

/// The most bytes that are read of a request or an answer.
const MOST: usize = 1 << 20;
