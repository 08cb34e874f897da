//! `runs answer`, `cancel`, `retry`, `fork`, `prune`, `delete`.

use flowstone_durable::Status;
use serde_json::json;

use crate::common::Desk;

#[test]
fn a_bare_word_answers_where_the_schema_takes_a_text() {
    let desk = Desk::with_runs();

    let said = desk.flowstone("runs answer march --node approve --step 3 yes").ok();

    assert_eq!(said, "run `march` is answered: the program that drives the store takes it up when it starts\n");
    assert_eq!(desk.reader().questions("march").unwrap()[0].answer, Some(json!("yes")));
}

#[test]
fn an_answer_may_be_json_or_in_a_file() {
    let (quoted, file) = (Desk::with_runs(), Desk::with_runs());
    std::fs::write(file.path("answer.json"), "\"no\"\n").unwrap();

    let done = quoted.json(r#"runs answer march --node approve "no""#);
    file.flowstone("runs answer march --node approve @answer.json").ok();

    assert_eq!(done, json!({ "run": "march", "request": "answer", "status": "running", "driver": null }));
    assert_eq!(file.reader().questions("march").unwrap()[0].answer, Some(json!("no")));
}

#[test]
fn an_answer_that_does_not_fit_is_refused_with_what_does_not() {
    let desk = Desk::with_runs();

    let word = desk.flowstone("runs answer march --node approve maybe").failed();
    let json = desk.flowstone("runs answer march --node approve true").failed();
    let broken = desk.flowstone_with(&["runs", "answer", "march", "--node", "approve", "{yes"]).failed();

    assert!(
        word.contains("the answer `maybe` is no JSON, and as a text it does not fit: \"maybe\" is not one of"),
        "{word}"
    );
    assert!(json.contains("does not fit: true is not one of"), "{json}");
    assert!(broken.starts_with("error: the answer is no JSON: key must be a string"), "{broken}");
    assert_eq!(desk.status("march"), Status::Paused);
}

#[test]
fn a_second_answer_is_refused() {
    let desk = Desk::with_runs();
    desk.flowstone("runs answer march --node approve yes").ok();

    let second = desk.flowstone("runs answer march --node approve no").failed();

    assert_eq!(second, "error: the question of run `march` at node `approve` was answered before");
    assert_eq!(desk.reader().questions("march").unwrap()[0].answer, Some(json!("yes")));
}

#[test]
fn an_answer_goes_to_the_node_and_the_step_that_ask() {
    let desk = Desk::with_runs();

    let node = desk.flowstone("runs answer march --node post yes").failed();
    let step = desk.flowstone("runs answer march --node approve --step 9 yes").failed();

    assert!(node.ends_with("node `approve` asks"), "{node}");
    assert!(step.contains("does not wait for an answer"), "{step}");
}

#[test]
fn cancel_and_retry_change_the_status_of_a_parked_run() {
    let desk = Desk::with_runs();

    assert_eq!(desk.flowstone("runs cancel call").ok(), "run `call` is cancelled\n");
    assert_eq!(desk.status("call"), Status::Cancelled);
    assert_eq!(desk.json("runs retry april")["status"], "running");
    assert_eq!(desk.status("april"), Status::Running);
    let again = desk.flowstone("runs cancel call").failed();
    assert_eq!(again, "error: run `call` cannot be cancelled: its status is `cancelled`");
}

#[test]
fn fork_starts_from_a_step_with_changes() {
    let desk = Desk::with_runs();

    let said = desk.flowstone("runs fork april --step 1 --to april-2 --set /lines/1=70 --set /scan=null").ok();

    assert!(said.starts_with("run `april-2` is forked from step 1 of run `april`"), "{said}");
    assert_eq!(desk.json("runs state april-2")["lines"], json!([50, 70]));
    assert_eq!(desk.json("runs state april")["lines"], json!([50, -1]));
    let taken = desk.flowstone("runs fork april --step 1 --to march").failed();
    assert!(taken.contains("`march`"), "{taken}");
    let nowhere = desk.flowstone("runs fork april --step 1 --to x --set /a/b/c=1").failed();
    assert_eq!(nowhere, "error: the state has no place `/a/b/c` to change");
    let step = desk.flowstone("runs fork april --step 7 --to x").failed();
    assert_eq!(step, "error: run `april` has no step 7; its last is 1");
}

#[test]
fn prune_deletes_what_its_conditions_say() {
    let desk = Desk::with_runs();

    assert_eq!(desk.flowstone("runs prune --keep 0 --dry-run").ok(), "1 run would be deleted\n");
    assert_eq!(desk.json("runs prune --older-than 1h"), json!({ "runs": 0, "bytes": 0, "dry_run": false }));
    assert_eq!(desk.json("runs prune --keep 0 --status failed --flow year")["runs"], 0);
    assert!(desk.flowstone("runs prune --keep 0 --status ended --status failed").ok().starts_with("2 runs deleted"));
    assert_eq!(desk.json("runs list")["runs"].as_array().unwrap().len(), 2);
    let unbounded = desk.flowstone("runs prune").usage();
    assert!(unbounded.contains("--older-than <AGE>|--keep <N>"), "{unbounded}");
}

#[test]
fn delete_takes_a_run_with_its_history() {
    let desk = Desk::with_runs();

    assert_eq!(desk.flowstone("runs delete 2025").ok(), "run `2025` is deleted\n");
    assert_eq!(desk.flowstone("runs show 2025").failed(), "error: there is no run `2025`");
}
