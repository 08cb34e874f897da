//! The parts that the programs with models share.
//!
//! | module | what it holds | used by |
//! |---|---|---|
//! | [`llm`] | options, the model, and a run with a person beside it | all |
//! | [`scripts`] | the replies of the scripted model | all |
//! | [`passages`], [`index`] | the paragraphs of a folder; their vectors in a SQLite file | `research`, `rag` |
//! | [`database`] | a SQLite database that is only read | `sql` |

pub mod database;
pub mod index;
pub mod llm;
pub mod passages;
pub mod scripts;
