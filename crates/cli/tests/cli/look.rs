//! `runs list`, `show`, `state`, `diff`.

use serde_json::json;

use crate::common::{Desk, squeezed};

#[test]
fn list_is_a_table_of_the_newest_first() {
    let desk = Desk::with_runs();

    let lines = squeezed(&desk.flowstone("runs list").ok());

    let columns: Vec<String> = lines.iter().map(|line| line.split(" now").next().unwrap().to_owned()).collect();
    assert_eq!(columns[0], "ID FLOW STATUS STEP NODE STARTED CHANGED");
    assert!(lines[1].starts_with("call reminder sleeping, wakes in "), "{lines:?}");
    assert!(lines[2].starts_with("2025 year ended 1 - "), "{lines:?}");
    assert!(lines[3].starts_with("april invoice failed 1 check "), "{lines:?}");
    assert!(lines[4].starts_with("march invoice paused 2 approve "), "{lines:?}");
    assert_eq!(lines.len(), 5);
}

#[test]
fn list_filters_and_pages() {
    let desk = Desk::with_runs();
    let ids = |line: &str| {
        let list = desk.json(line);
        let ids = list["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), list["next"].clone())
    };

    assert_eq!(ids("runs list --flow invoice").0, ["april", "march"]);
    assert_eq!(ids("runs list --status failed --status sleeping").0, ["call", "april"]);
    assert_eq!(ids("runs list --since 1h").0.len(), 4);
    assert_eq!(ids("runs list --until 1h").0.len(), 0);
    assert_eq!(ids("runs list --since 2999-01-01T00:00:00Z").0.len(), 0);
    let (first, next) = ids("runs list --limit 3");
    assert_eq!(first, ["call", "2025", "april"]);
    assert_eq!(ids(&format!("runs list --after {}", next.as_str().unwrap())), (vec!["march".to_owned()], json!(null)));
    assert!(desk.flowstone("runs list --limit 3").ok().contains(&format!("--after {}", next.as_str().unwrap())));
    assert_eq!(desk.flowstone("runs list --flow nothing").ok(), "no runs\n");
}

#[test]
fn a_run_as_json_has_stable_keys_and_exact_times() {
    let desk = Desk::with_runs();

    let mut run = desk.json("runs list --flow invoice --status failed")["runs"][0].take();

    let created = run["created_at"].take();
    assert!(created.as_str().unwrap().ends_with('Z') && created.as_str().unwrap().len() == 24, "{created}");
    assert_eq!(run["error"]["item"], 1);
    assert_eq!(run["error"]["terminal"], true);
    // Their order depends on what else is in the build: a package may ask serde_json to keep that of the program.
    let mut keys: Vec<&String> = run.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    let mut wanted = ["id", "flow", "fingerprint", "status", "step", "node", "action", "error", "created_at"].to_vec();
    wanted.extend(["changed_at", "wake_at", "parent", "item"]);
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
}

#[test]
fn show_tells_of_steps_retries_and_the_question_but_not_of_contents() {
    let desk = Desk::with_runs();

    let text = desk.flowstone("runs show march").ok();

    let lines = squeezed(&text);
    for line in [
        "run march",
        "status paused",
        "step 2, next is visit 2, of node `approve`",
        "driver nobody drives the store",
        "step 2, node `check`, item 1: attempt 1 failed: the price list is busy",
        r#"asks {"pay":[120,0,80]}"#,
        r#"schema {"enum":["yes","no"]}"#,
        concat!(
            "answer ",
            env!("CARGO_BIN_EXE_flowstone"),
            " runs answer march --node approve --step 3 yes --store desk.db"
        ),
        "note batch `check` is not journaled: after a crash it restarts whole",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} is missing in\n{text}");
    }
    assert!(
        lines.iter().any(|line| line.starts_with("2 1 check default approve 2") && line.contains(" 4 1 - ")),
        "{text}"
    );
    assert!(!text.contains("\"lines\""), "{text}");
}

#[test]
fn show_as_json_is_one_document() {
    let desk = Desk::with_runs();

    let shown = desk.json("runs show march");

    assert_eq!(shown["run"]["status"], "paused");
    assert_eq!(shown["driver"], json!(null));
    assert_eq!(shown["question"]["node"], "approve");
    assert_eq!(shown["question"]["schema"], json!({ "enum": ["yes", "no"] }));
    assert_eq!(shown["restarts_whole"], json!(["check"]));
    let check = &shown["steps"][2];
    assert_eq!((&check["node"], &check["attempts"]), (&json!("check"), &json!(4)));
    // Its number in keys and events.
    assert_eq!((&check["step"], &check["visit"], &shown["steps"][0]["visit"]), (&json!(2), &json!(1), &json!(null)));
    assert_eq!(check["retries"][0]["error"], "the price list is busy");
    assert!(check["state_bytes"].as_u64() > check["stored_bytes"].as_u64());
    assert_eq!(desk.json("runs show march --limit 1")["earlier_steps"], 2);
    assert_eq!(desk.json("runs show march --from 0 --limit 1")["later_steps"], 2);
}

#[test]
fn show_says_why_a_run_failed() {
    let desk = Desk::with_runs();

    let text = desk.flowstone("runs show april").ok();

    assert!(text.contains("a line of -1 cents (no further attempt can help)\n"), "{text}");
}

#[test]
fn show_sums_up_children_and_lists_them_if_asked() {
    let desk = Desk::with_runs();

    let text = desk.flowstone("runs show 2025").ok();
    let listed = desk.json("runs show 2025 --children");

    assert!(text.contains("\nchildren  3: 3 ended\n"), "{text}");
    assert!(text.contains("3, 0 recalled"), "{text}");
    assert_eq!(listed["children"]["by_status"], json!({ "ended": 3 }));
    assert_eq!(listed["children"]["runs"][2]["parent"], "2025");
    assert_eq!(listed["children"]["runs"][2]["item"], 2);
    let child = listed["children"]["runs"][2]["id"].as_str().unwrap();
    assert!(desk.flowstone_with(&["runs", "show", child]).ok().contains("\nchild of  2025, item 2\n"));
}

#[test]
fn show_counts_what_a_visit_under_way_has_done() {
    let desk = Desk::empty();
    desk.desk(r#"run year --id 2026 --state {"months":[1,2,0,4]}"#).failed();

    let text = desk.flowstone("runs show 2026").ok();
    let shown = desk.json("runs show 2026");

    assert!(text.contains("\nitems     2 done in the visit under way\n"), "{text}");
    assert_eq!(shown["items_done"], 2);
    assert_eq!(shown["children"]["by_status"]["failed"], 1);
}

#[test]
fn state_prints_the_state_after_any_step() {
    let desk = Desk::with_runs();

    assert_eq!(desk.flowstone("runs state march").json()["checked"], json!([120, 0, 80]));
    assert_eq!(desk.json("runs state march --step 1")["checked"], json!([]));
}

#[test]
fn diff_is_a_line_for_each_change_or_a_patch() {
    let desk = Desk::with_runs();

    assert_eq!(desk.flowstone("runs diff march 1 2").ok(), "+ /checked/0 120\n+ /checked/1 0\n+ /checked/2 80\n");
    assert_eq!(desk.flowstone("runs diff 2025 0 1").ok(), "~ /sum 0 -> 12\n");
    assert_eq!(desk.flowstone("runs diff march 0 1").ok(), "no change\n");
    assert_eq!(desk.json("runs diff 2025 0 1"), json!([{ "op": "replace", "path": "/sum", "value": 12 }]));
    assert_eq!(desk.json("runs diff march 0 1"), json!([]));
}
