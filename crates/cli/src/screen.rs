//! The output of a command: stdout, as tables for people or as one JSON document.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::NOTHING};
use flowstone_durable::Status;
use serde::Serialize;
use serde_json::Value;

use crate::{
    stop::{Result, Stop},
    words::{plain, plain_json},
};

/// The narrowest terminal that tables are fitted to, in columns.
const NARROW: u16 = 60;

/// The output of a command.
pub(crate) struct Screen<W> {
    out: W,
    terminal: bool,
    colours: bool,
}

impl Screen<io::BufWriter<io::StdoutLock<'static>>> {
    /// Creates one over stdout, with colours if that is a terminal and `NO_COLOR` is not set.
    pub(crate) fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out: io::BufWriter::new(io::stdout().lock()), terminal, colours: terminal && wanted }
    }
}

impl<W: Write> Screen<W> {
    /// Writes a line, whose text is free of signs that could steer the terminal.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{}", plain(text))?)
    }

    /// Writes an empty line.
    pub(crate) fn gap(&mut self) -> Result<()> {
        self.line("")
    }

    /// Writes text of several lines that a program made of data, as a picture of a graph.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            self.line(line)?;
        }
        Ok(())
    }

    /// Writes one JSON document, and nothing else.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> Result<()> {
        let text =
            serde_json::to_string_pretty(document).map_err(|error| Stop::because("the output is no JSON", &error))?;
        Ok(writeln!(self.out, "{}", plain_json(&text))?)
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes a table; its columns are as wide as their content, or as the terminal allows.
    pub(crate) fn table(&mut self, mut table: Table) -> Result<()> {
        // Below that, cells would break into letters; long lines that the terminal breaks are the lesser evil.
        if let Some(width) = table.width().filter(|width| self.terminal && *width >= NARROW) {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Flushes the output.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// Begins a table without lines, so that other programs can cut it up.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell of stored text.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(plain(text.as_ref()))
}

/// A cell of stored text that may be missing.
pub(crate) fn cell_or_dash(text: Option<&str>) -> Cell {
    cell(text.unwrap_or("-"))
}

/// A cell of a status, with a remark.
pub(crate) fn status(status: Status, text: &str) -> Cell {
    let cell = cell(text);
    match status {
        Status::Failed => cell.fg(Color::Red),
        Status::Paused => cell.fg(Color::Yellow),
        Status::Sleeping => cell.fg(Color::Cyan),
        Status::Ended => cell.fg(Color::Green),
        Status::Cancelled => cell.fg(Color::DarkGrey),
        _ => cell,
    }
}

/// JSON in one line.
pub(crate) fn compact(value: &Value) -> String {
    value.to_string()
}
