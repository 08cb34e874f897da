//! Every SQL statement of this package, as its sources have it: none walks over rows that it was not asked for.

use std::{collections::BTreeMap, fs, path::Path};

use flowstone_durable::Store;
use rusqlite::Connection;

use crate::common::Folder;

/// Statements that may walk over something, and why.
const EXCEPTIONS: [(&str, &str, &str); 9] = [
    (
        "SELECT status, min(wake_at) FROM runs WHERE parent",
        "USE TEMP B-TREE",
        "six statuses, of the children of one visit",
    ),
    (
        "SELECT run FROM runs WHERE parent = ?1 AND parent_seq = ?2 + 1 AND item = ?3",
        "USE TEMP B-TREE",
        "the children that one place of a visit has had, which are few",
    ),
    ("INSERT INTO under_way", "USE TEMP B-TREE", "the items of one run"),
    ("WITH RECURSIVE tree (run, prefix)", "USE TEMP B-TREE", "the questions of one run, in order"),
    ("SELECT count(*) FROM sqlite_schema", "SCAN sqlite_master", "a dozen tables"),
    ("INSERT INTO runs", "SCAN runs", "the last row alone: `ORDER BY run DESC LIMIT 1`"),
    ("SELECT name, fingerprint, graph", "SCAN flows", "all flows are what is asked for"),
    ("SELECT run FROM deleting", "SCAN deleting", "the last row alone: `ORDER BY run DESC LIMIT 1`"),
    ("SELECT max(run) FROM runs", "SEARCH runs", "the last row alone"),
];

/// The tables that stand for `{table}` in a statement.
const TABLES: [&str; 7] = ["visits", "pauses", "items", "under_way", "usage", "inbox", "runs"];

/// Collects the string literals of a source that are statements.
fn statements(source: &str, into: &mut Vec<String>) {
    let mut rest = source;
    while let Some(at) = rest.find('"') {
        let (mut text, mut escaped, mut end) = (String::new(), false, rest.len());
        for (offset, c) in rest[at + 1..].char_indices() {
            match c {
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                '"' if !escaped => {
                    end = at + 1 + offset + 1;
                    break;
                }
                _ => text.push(c),
            }
            escaped = false;
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "].iter().any(|verb| text.starts_with(verb)) {
            into.push(text);
        }
        rest = &rest[end..];
    }
}

/// Collects the statements of all files in a folder, but for the unit tests.
fn of_folder(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            of_folder(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
            // Quotes in comments come in no pairs.
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            statements(&code.collect::<Vec<_>>().join("\n").replace("'\"'", "' '"), into);
        }
    }
}

#[tokio::test]
async fn no_statement_walks_over_what_is_not_asked_for() {
    let folder = Folder::new();
    Store::open(folder.store()).await.unwrap().close().await;
    let db = Connection::open(folder.store()).unwrap();
    let mut all = Vec::new();
    of_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 60, "the statements were found: {}", all.len());

    let (mut faults, mut excepted) = (Vec::new(), BTreeMap::new());
    for sql in &all {
        let every = if sql.contains("{table}") { TABLES.to_vec() } else { vec![""] };
        for table in every {
            let sql = sql.replace("{table}", table).replace("{}", "pauses.seq");
            let mut plan = match db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")) {
                Ok(plan) => plan,
                Err(error) => {
                    faults.push(format!("{sql}: {error}"));
                    continue;
                }
            };
            let steps = plan.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>().unwrap();
            for step in steps {
                let walks = step.starts_with("SCAN")
                    && !step.contains("CONSTANT ROW")
                    && !["SCAN tree", "SCAN used"].contains(&step.as_str());
                if !walks && !step.contains("TEMP B-TREE") {
                    continue;
                }
                match EXCEPTIONS.iter().find(|(begins, what, _)| sql.starts_with(begins) && step.starts_with(what)) {
                    Some((begins, ..)) => drop(excepted.insert(*begins, ())),
                    None => faults.push(format!("{sql}\n    {step}")),
                }
            }
        }
    }

    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("excepted: {excepted:?}");
}
