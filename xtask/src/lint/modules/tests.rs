//! Small crates of a few files, and what is found wrong with them.

use super::*;

const LAYERS: [&str; 3] = ["words", "visit", "drive"];

fn faults(files: &[(&str, &str)]) -> Vec<String> {
    let file = |(path, text): &(&str, &str)| File { path: format!("src/{path}"), text: (*text).to_owned() };
    let files: Vec<File> = files.iter().map(file).collect();
    Crate::read("src/", &LAYERS, &files).check().iter().map(ToString::to_string).collect()
}

#[test]
fn a_layer_may_import_itself_and_what_is_below() {
    let files = [
        ("lib.rs", "pub use drive::run::Run;\n"),
        ("words/mod.rs", "mod action;\nmod error;\n"),
        ("words/action.rs", "//! `crate::drive` is only named here.\n"),
        ("words/error.rs", "use super::action::Action;\nconst TEXT: &str = \"crate::drive::Run\";\n"),
        ("visit/mod.rs", "use crate::words::{action::Action, error::{Error, Phase}};\n"),
        ("drive/run.rs", "use crate::{visit::Visit, words::error::Error};\n"),
    ];

    assert_eq!(faults(&files), [""; 0]);
}

#[test]
fn an_upward_import_is_named_with_its_line_and_with_what_is_allowed() {
    let files = [
        ("words/error.rs", "//! Errors.\n\nuse crate::{\n    drive::run::Run,\n    words::action::Action,\n};\n"),
        ("words/action.rs", ""),
        ("visit/mod.rs", ""),
        ("drive/run.rs", ""),
    ];

    assert_eq!(
        faults(&files),
        ["src/words/error.rs:4: `words` imports `crate::drive::run::Run`, but `drive` is above it; \
          besides itself, `words` may import nothing of the crate"]
    );
}

#[test]
fn an_import_is_found_in_every_form() {
    let forms = [
        "fn f() -> crate::drive::Run { loop {} }\n",
        "fn f(run: &super::super::drive::Run) {}\n",
        "use super::super::drive::Run;\n",
        "use crate::drive::{self, Run as Other};\n",
        "macro_rules! m { () => { $crate::drive::Run } }\n",
    ];

    for form in forms {
        let found = faults(&[("visit/pool.rs", form), ("drive/mod.rs", "")]);

        assert!(!found.is_empty(), "{form}");
        assert!(found[0].contains("`visit` may import `words`"), "{found:?}");
    }
}

#[test]
fn the_root_is_above_all() {
    let found = faults(&[("words/error.rs", "use crate::Action;\n")]);

    assert_eq!(found.len(), 1);
    assert!(found[0].contains("from the root"), "{found:?}");
}

#[test]
fn a_circle_is_found_once_also_between_a_module_and_its_child() {
    let two = [("visit/a.rs", "use crate::visit::b::B;\n"), ("visit/b.rs", "\nuse super::a::A;\n")];
    let child = [("visit/mod.rs", "mod part;\npub(crate) use part::Part;\n"), ("visit/part.rs", "use super::Visit;\n")];

    assert_eq!(faults(&two), ["src/visit/a.rs:1: a circle of modules: `visit::a` → `visit::b` → `visit::a`"]);
    assert_eq!(faults(&child), ["src/visit/mod.rs:2: a circle of modules: `visit` → `visit::part` → `visit`"]);
}

#[test]
fn tests_may_import_anything() {
    let files = [
        ("words/error.rs", "\n#[cfg(test)]\nmod tests {\n    use crate::drive::Run;\n}\n"),
        ("words/tests.rs", "use crate::drive::Run;\n"),
        ("drive/mod.rs", ""),
    ];

    assert_eq!(faults(&files), [""; 0]);
}

#[test]
fn a_module_that_has_no_layer_is_a_fault() {
    let found = faults(&[("helpers.rs", "")]);

    assert_eq!(found.len(), 1);
    assert!(found[0].contains("do not name `helpers`"), "{found:?}");
}

#[test]
fn the_project_keeps_its_layers() {
    let files = crate::lint::tree::read(&crate::run::root().unwrap()).unwrap();

    let faults: Vec<String> = check(&files).iter().map(ToString::to_string).collect();

    assert_eq!(faults, [""; 0]);
}
