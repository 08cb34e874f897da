//! The parts that the examples share.
//!
//! | module | what it holds | used by |
//! |---|---|---|
//! | [`open_meteo`] | a client for Open-Meteo's two services, or for one that speaks like them | `weather` |
//! | [`service`] | such a service, on a free port of this machine, with delays and failures | `weather` |
//! | [`cities`] | some dozens of cities, and the one that a misspelt name may mean | both |
//! | [`http`] | a small HTTP client and a small HTTP server | `weather`, `invoices` |
//! | [`features`] | the command for a program that was built without a feature | `weather` |
//! | [`progress`] | a line on the terminal that says how far a program is | `weather`, `invoices` |
//! | [`wait`] | durations on the command line | most |

pub mod cities;
pub mod features;
pub mod http;
pub mod open_meteo;
pub mod progress;
pub mod service;
pub mod wait;
