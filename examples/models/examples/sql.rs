//! A question becomes SQL, which is run; what SQLite says of a wrong statement goes back to the model.
//!
//! ```text
//! ○ ─▶ write ─▶ run ─┬ wrong ─────▶ write …
//!                    ├ answered ──▶ ◎
//!                    └ given_up ──▶ ◎
//! ```
//!
//! ```text
//! cargo run --release -p flowstone-examples-models --example sql -- "Who spent most?" --db shop.db
//! ```
//!
//! Without `--db` the questions are about a small shop, `data/shop.sql`. Nothing is ever written to the database.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use flowstone::{
    BuildError,
    llm::{Extract, Model, Options},
    prelude::*,
};
use flowstone_examples_models::{
    database::Database,
    llm::{ModelArgs, nobody},
    scripts,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Parser)]
#[command(about = "Answers a question about a SQLite database")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The database
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The most statements that are tried
    #[arg(long, value_name = "N", default_value_t = 4)]
    tries: u32,
    /// The question
    #[arg(default_value = "How much did each customer spend, in euros?")]
    question: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Inquiry {
    question: String,
    /// The statements that made the database.
    schema: String,
    statement: String,
    fault: Option<String>,
    tries: u32,
    rows: Vec<Vec<String>>,
}

/// A statement of SQLite.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Statement {
    /// One SELECT, which answers the question.
    sql: String,
}

#[derive(Action)]
enum Ran {
    Answered,
    Wrong,
    GivenUp,
}

const WRITE: &str = "\
A SQLite database was made by these statements:
{{ schema }}
{%- if fault %}
This statement is wrong: {{ statement }}
SQLite says: {{ fault }}
{%- endif %}
Write a statement that answers this question: {{ question }}";

fn flow(model: &Model, db: Database, most: u32) -> Result<AsyncFlow<Inquiry>, BuildError> {
    let mut flow = AsyncFlow::builder("sql");
    let write =
        Extract::prompt(model, WRITE, |inquiry: &mut Inquiry, written: Statement| inquiry.statement = written.sql);
    let options = Options { temperature: Some(0.0), max_tokens: Some(400), ..Options::default() };
    let write = write.options(options).retry(Retry::attempts(3).exponential(Duration::from_millis(500)).jitter());
    let write = flow.add("write", write);
    let run = step(
        |inquiry: &Inquiry| inquiry.statement.clone(),
        // An error of the database is a result here: trying the same statement again would not help.
        move |sql: &String| Ok(db.select(sql).map_err(|error| error.to_string())),
        move |inquiry: &mut Inquiry, _: String, ran: Result<Vec<Vec<String>>, String>| {
            inquiry.tries += 1;
            inquiry.fault = ran.as_ref().err().cloned();
            match ran {
                Ok(rows) => inquiry.rows = rows,
                Err(_) if inquiry.tries >= most => return Ran::GivenUp,
                Err(_) => return Ran::Wrong,
            }
            Ran::Answered
        },
    );
    let run = flow.add("run", run);
    flow.start(write);
    flow.route(write >> run);
    flow.route(run - Ran::Wrong >> write);
    flow.route(run - Ran::Answered >> END);
    flow.route(run - Ran::GivenUp >> END);
    flow.build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { model, db, tries, question } = Args::parse();
    let db = match db {
        Some(path) => Database::open(&path)?,
        None => Database::of(include_str!("../data/shop.sql"))?,
    };
    let schema = db.schema()?;
    let flow = flow(&model.model(scripts::sql)?, db, tries)?;
    let id = format!("sql: {question}");
    let inquiry = model.run(id, flow, Inquiry { question, schema, ..Inquiry::default() }, nobody).await?.state();

    let Inquiry { statement, fault, tries, rows, .. } = inquiry;
    println!("{statement}");
    if let Some(fault) = fault {
        bail!("none of {tries} statements works; of this one SQLite says: {fault}");
    }
    let mut table = Table::new();
    let mut rows = rows.into_iter();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners()).set_header(rows.next().unwrap_or_default());
    table.add_rows(rows);
    println!("{table}");
    Ok(())
}
