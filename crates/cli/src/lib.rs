//! The command line of Flowstone: the program `flowstone`, and the same commands for a program of one's own.
//!
//! `flowstone` looks into a store file and asks things of the process that drives it. A program that hands its flows to
//! [`main`] has those commands, and `run` and `resume`, which drive.
//!
//! | module | what it holds |
//! |---|---|
//! | `program` | from arguments to an exit code |
//! | `arguments` | what can be typed, with its help |
//! | `input` | times, JSON, files and JSON pointers in arguments |
//! | `runs` | `runs list`, `show`, `state`, `diff`; `answer`, `cancel`, `retry`, `fork`, `prune`, `delete` |
//! | `graph` | `graph` |
//! | `flows`, `drive`, `progress` | flows without their types; `run` and `resume`; what they tell meanwhile |
//! | `new` | `new`: a project to begin with |
//! | `view` | what `--json` prints: stable keys |
//! | `screen`, `words` | what people read: tables, times, sizes |
//! | `stop` | why a command ends early |
//!
//! # Invariants
//!
//! - With `--json` a command prints one JSON document and nothing else to stdout.
//! - What a store holds is printed without control characters: it cannot steer the terminal.
//! - States and answers are printed only by the commands that are for them.
//! - Exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage; after a signal 128 and its number:
//!   130 interrupted (Ctrl-C), 143 terminated, 129 hung up. `run` and `resume` stop their runs in good order first.

mod arguments;
mod drive;
mod flows;
mod graph;
mod input;
mod new;
mod program;
mod progress;
mod runs;
mod screen;
mod stop;
mod view;
mod words;

pub use flows::Flows;
pub use program::main;
