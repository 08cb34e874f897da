//! A store in a folder of its own, and programs that are started on it.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use flowstone_durable::{Reader, Status, Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::flows::{self, Invoice, Year};

/// A folder with a store.
pub(crate) struct Desk {
    folder: TempDir,
}

/// The output and the exit code of a program that ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Desk {
    /// Makes an empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Makes a store with a run that asks (`march`), one that failed (`april`), one that ended and has children
    /// (`2025`), and one that sleeps (`call`).
    pub(crate) fn with_runs() -> Self {
        let desk = Self::empty();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = Store::open(desk.store()).await.unwrap();
            let invoices = store.runs(flows::invoice().unwrap()).await.unwrap();
            for (id, lines) in [("march", vec![120, 0, 80]), ("april", vec![50, -1])] {
                let run = invoices.start(id, Invoice { lines, ..Invoice::default() }).await.unwrap();
                run.settled().await.unwrap();
            }
            let years = store.runs(flows::year().unwrap()).await.unwrap();
            let year = years.start("2025", Year { months: vec![1, 2, 3], ..Year::default() }).await.unwrap();
            assert_eq!(year.settled().await.unwrap(), Status::Ended);
            let reminders = store.runs(flows::reminder().unwrap()).await.unwrap();
            let call = reminders.start("call", 3_600_000_u64).await.unwrap();
            assert_eq!(call.settled().await.unwrap(), Status::Sleeping);
            store.close().await;
        });
        desk
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("desk.db")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(self.store()).unwrap()
    }

    /// Opens the store if another process has made it by now.
    pub(crate) fn reader_if_there(&self) -> Option<Reader> {
        Reader::open(self.store()).ok()
    }

    pub(crate) fn status(&self, run: &str) -> Status {
        self.reader().run(run).unwrap().status
    }

    /// Runs `flowstone` on the store.
    pub(crate) fn flowstone(&self, line: &str) -> Said {
        Said::of(&mut self.command(env!("CARGO_BIN_EXE_flowstone"), words(line)))
    }

    /// Runs `flowstone` on the store, with arguments that have spaces in them.
    pub(crate) fn flowstone_with(&self, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(env!("CARGO_BIN_EXE_flowstone"), arguments))
    }

    /// Runs `flowstone … --json` on the store, and reads what it prints.
    pub(crate) fn json(&self, line: &str) -> Value {
        self.flowstone(&format!("{line} --json")).json()
    }

    /// Runs the example `desk` on the store.
    pub(crate) fn desk(&self, line: &str) -> Said {
        Said::of(&mut self.desk_command(line))
    }

    pub(crate) fn desk_command(&self, line: &str) -> Command {
        self.command(desk_program(), words(line))
    }

    fn command(&self, program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("FLOWSTONE_STORE", "desk.db").current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// Says that it went well, and returns what it printed.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
        self.out
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Says that it failed with one clear line, and returns that line.
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        let line = self.err.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n') && line.starts_with("error: "), "{line}");
        line.to_owned()
    }

    /// Says that the arguments were wrong, and returns what it said of them.
    pub(crate) fn usage(self) -> String {
        assert_eq!((self.code, &*self.out), (Some(2), ""), "{self:?}");
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The columns of a table, with one space between them.
pub(crate) fn squeezed(table: &str) -> Vec<String> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

/// Cargo builds the examples of a package before its tests, beside its programs.
fn desk_program() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_flowstone")).parent().unwrap();
    let program = folder.join("examples").join(format!("desk{}", env::consts::EXE_SUFFIX));
    assert!(program.exists(), "the example is missing: run `cargo build -p flowstone-cli --examples`");
    program
}
