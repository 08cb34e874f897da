//! `runs answer`, `cancel`, `retry`, `fork`, `prune`, `delete`.

use flowstone_core::AsyncFlow;
use flowstone_durable::{Runs, Status};
use serde_json::json;

use crate::{
    common::{Desk, squeezed},
    flows::{self, Invoice},
};

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
    assert_eq!(step, "error: run `march` does not ask at step 9, but at step 3");
}

fn invoice_of(lines: &[i64]) -> Invoice {
    Invoice { lines: lines.to_vec(), ..Invoice::default() }
}

/// Reviews the invoices of a month, each by a question of its own.
fn month() -> AsyncFlow<Vec<Invoice>> {
    let fork = |month: &Vec<Invoice>| month.iter().map(|invoice| invoice_of(&invoice.lines)).collect();
    let join = |month: &mut Vec<Invoice>, reviewed: Vec<Invoice>| *month = reviewed;
    let mut flow = AsyncFlow::builder("month");
    let review = flow.add("review", flows::invoice().unwrap().batch(fork, join).journaled());
    flow.start(review);
    flow.build().unwrap()
}

/// A store with a run, `may`, in which so many invoices wait for their approval.
fn waiting(invoices: i64) -> Desk {
    let desk = Desk::empty();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let runs = Runs::open(desk.store(), month()).await.unwrap();
        let month: Vec<_> = (1..=invoices).map(|cents| invoice_of(&[cents])).collect();
        assert_eq!(runs.start("may", month).await.unwrap().settled().await.unwrap(), Status::Paused);
        runs.store().close().await;
    });
    desk
}

#[test]
fn open_questions_of_children_are_listed_with_their_paths_and_each_is_answered() {
    let desk = waiting(3);

    let shown = squeezed(&desk.flowstone("runs show may").ok());
    assert!(shown.contains(&"3 open questions, in any order:".to_owned()), "{shown:#?}");
    for item in 0..3 {
        let row = format!("review[{item}]/approve 3 ");
        let asks = format!(r#" {{"pay":[{}]}}"#, item + 1);
        assert!(shown.iter().any(|line| line.starts_with(&row) && line.ends_with(&asks)), "{row}: {shown:#?}");
    }
    let flowstone = env!("CARGO_BIN_EXE_flowstone");
    let child = desk.reader().questions("may").unwrap()[0].run.clone();
    let answer =
        format!("answer {flowstone} runs answer '{child}' --node 'review[0]/approve' --step 3 yes --store desk.db");
    assert!(shown.contains(&answer), "{shown:#?}");
    let whose = desk.flowstone("runs answer may --step 3 yes").failed();
    assert!(
        whose.starts_with("error: step 3 is one of a child of run `may`, say which: `runs answer 'may~"),
        "{whose}"
    );
    let nodes = |desk: &Desk| {
        let questions = desk.json("runs show may")["questions"].take();
        questions.as_array().unwrap().iter().map(|question| question["node"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(nodes(&desk), ["review[0]/approve", "review[1]/approve", "review[2]/approve"]);

    let said = desk.flowstone("runs answer may --node review[1]/approve yes").ok();
    assert_eq!(said, "run `may` is answered: the program that drives the store takes it up when it starts\n");
    assert_eq!(nodes(&desk), ["review[0]/approve", "review[2]/approve"]);
    let twice = desk.flowstone("runs answer may --node review[1]/approve no").failed();
    assert_eq!(twice, "error: the question of run `may` at node `review[1]/approve` was answered before");

    let month = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let runs = Runs::open(desk.store(), month()).await.unwrap();
        for (item, answer) in [(2, "no"), (0, "yes")] {
            runs.answer("may", format!("review[{item}]/approve"), answer).await.unwrap();
        }
        runs.get("may").await.unwrap().finished().await.unwrap().ended().unwrap().state
    });
    assert_eq!(
        month.iter().map(|invoice| invoice.approved.as_deref()).collect::<Vec<_>>(),
        [Some("yes"), Some("yes"), Some("no")]
    );
}

#[test]
fn an_answer_without_a_node_is_for_the_only_question_or_names_those_that_ask() {
    let (march, many) = (Desk::with_runs(), waiting(33));

    let unfit = march.flowstone("runs answer march maybe").failed();
    let elsewhere = march.flowstone("runs answer march --step 9 yes").failed();
    assert_eq!(march.status("march"), Status::Paused);
    let one = march.flowstone("runs answer march yes").ok();
    let said = many.flowstone("runs answer may yes").usage();
    let none = march.flowstone("runs answer april yes").failed();
    let nobody = march.flowstone("runs answer nobody yes").failed();

    assert!(one.starts_with("run `march` is answered"), "{one}");
    assert!(unfit.contains("\"maybe\" is not one of"), "{unfit}");
    assert_eq!(elsewhere, "error: run `march` does not ask at step 9, but at step 3");
    let names = "run `may` has 33 open questions, say which you answer: --node 'review[0]/approve', --node 'review[1]/";
    assert!(said.contains(names), "{said}");
    assert!(said.contains("--node 'review[19]/approve' and 13 more, see `runs show --json`\n"), "{said}");
    assert_eq!(none, "error: run `april` does not wait for an answer");
    assert_eq!(nobody, "error: there is no run `nobody`");
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
