//! Late answers: an answer to a question goes to that question, and to no later one that looks like it.

use flowstone_core::{Action, Ask, AsyncFlow, END, Result};
use flowstone_durable::{AnswerError, Question, ReadError, Requests, Run, Runs};

use crate::common::{Folder, soon};

/// Asks for a number.
struct Number;

impl Ask<u64> for Number {
    type Question = &'static str;
    type Answer = u64;
    type Action = ();

    fn ask(&self, _: &u64) -> Result<&'static str> {
        Ok("which number?")
    }

    fn post(&self, sum: &mut u64, number: u64) -> Result<()> {
        *sum += number;
        Ok(())
    }
}

fn asking() -> AsyncFlow<u64> {
    let mut flow = AsyncFlow::builder("asking");
    let ask = flow.add("ask", Number);
    flow.start(ask);
    flow.build().unwrap()
}

/// Visits its batch node until the sum is 100: each time its children ask at the same paths and steps.
fn loops() -> AsyncFlow<u64> {
    let mut flow = AsyncFlow::builder("loops");
    let join = |sum: &mut u64, numbers: Vec<u64>| {
        *sum += numbers.iter().sum::<u64>();
        Action::from(if *sum < 100 { "again" } else { "enough" })
    };
    let review = flow.add("review", asking().batch(|_: &u64| vec![0, 0], join).journaled());
    flow.start(review);
    flow.route(review - "again" >> review);
    flow.route(review - "enough" >> END);
    flow.build().unwrap()
}

async fn open_questions(run: &Run<u64>) -> Vec<Question> {
    soon("the question", run.settled()).await.unwrap();
    let mut questions = run.questions().await.unwrap();
    questions.retain(Question::is_open);
    questions
}

/// Gives an answer to a question in every way, and returns the errors.
async fn answered_late(folder: &Folder, run: &Run<u64>, runs: &Runs<u64>, question: &Question) -> [AnswerError; 3] {
    let (path, asked) = (folder.store(), question.clone());
    let beside = move || Requests::open(path).unwrap().answer_question(&asked, 7);
    [
        run.answer_question(question, 7).await.unwrap_err(),
        runs.store().answer_question(question, 7).await.unwrap_err(),
        tokio::task::spawn_blocking(beside).await.unwrap().unwrap_err(),
    ]
}

#[tokio::test]
async fn a_late_answer_does_not_go_to_a_child_of_a_later_visit() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), loops()).await.unwrap();
    let run = runs.start("r", 0).await.unwrap();
    let first = open_questions(&run).await;
    for (question, number) in first.iter().zip([10, 20]) {
        run.answer_question(question, number).await.unwrap();
    }
    let second = open_questions(&run).await;
    assert_eq!((&second[0].node, second[0].step), (&first[0].node, first[0].step));

    for question in &first {
        for late in answered_late(&folder, &run, &runs, question).await {
            assert!(matches!(late, AnswerError::AlreadyAnswered { .. }), "{late:?}");
        }
    }

    for (question, number) in second.iter().zip([30, 40]) {
        runs.store().answer_question(question, number).await.unwrap();
    }
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 100);
}

#[tokio::test]
async fn a_late_answer_does_not_go_to_another_life_of_its_run() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let run = runs.start("r", 0).await.unwrap();
    let question = open_questions(&run).await.remove(0);
    run.cancel().await.unwrap();
    runs.delete("r").await.unwrap();
    let run = runs.start("r", 0).await.unwrap();
    assert_eq!(open_questions(&run).await.len(), 1);

    for late in answered_late(&folder, &run, &runs, &question).await {
        assert!(matches!(late, AnswerError::NotAsking { .. }), "{late:?}");
    }

    run.answer("ask", 1).await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state, 1);
}

#[tokio::test]
async fn a_question_of_another_run_is_none_of_this_one() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let (a, b) = (runs.start("a", 0).await.unwrap(), runs.start("b", 0).await.unwrap());
    let question = open_questions(&a).await.remove(0);
    open_questions(&b).await;

    let error = b.answer_question(&question, 7).await.unwrap_err();

    assert!(matches!(error, AnswerError::NotAsking { .. }), "{error:?}");
    assert_eq!((open_questions(&a).await.len(), open_questions(&b).await.len()), (1, 1));
    runs.store().answer_question(&question, 7).await.unwrap();
    assert_eq!(soon("the end", a.finished()).await.unwrap().ended().unwrap().state, 7);
}

#[tokio::test]
async fn a_question_of_a_run_that_was_deleted_is_one_of_no_run() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), asking()).await.unwrap();
    let run = runs.start("r", 0).await.unwrap();
    let question = open_questions(&run).await.remove(0);
    run.cancel().await.unwrap();
    runs.delete("r").await.unwrap();

    for late in answered_late(&folder, &run, &runs, &question).await {
        assert!(matches!(late, AnswerError::Read(ReadError::UnknownRun { .. })), "{late:?}");
    }
}
