//! What the examples share.
//!
//! | module | what it holds | used by |
//! |---|---|---|
//! | [`open_meteo`] | a client for Open-Meteo's two services, or for one that speaks like them | `weather` |
//! | [`service`] | such a service, on a free port of this machine, with delays and failures | `weather` |
//! | [`cities`] | some dozens of cities, and the one that a misspelt name may mean | both |
//! | [`http`] | what HTTP clients have in common | `weather`, `invoices` |
//! | [`llm`] | options, the model, and a run with a person beside it | what speaks with a model |
//! | [`scripts`] | what the scripted model replies | the same |
//! | [`passages`], [`index`] | the paragraphs of a folder; their vectors in a SQLite file | `research`, `rag` |
//! | [`database`] | a SQLite database that is only read | `sql` |
//! | [`wait`] | durations on the command line | most |

pub mod cities;
pub mod database;
pub mod http;
pub mod index;
pub mod llm;
pub mod open_meteo;
pub mod passages;
pub mod scripts;
pub mod service;
pub mod wait;
