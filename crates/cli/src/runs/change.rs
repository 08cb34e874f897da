//! The commands that change something: they leave a request for the process that drives the store.

use std::{collections::BTreeSet, io::Write, path::Path};

use flowstone_durable::{AnswerError, Prune, Question, Reader, Requests, Status};
use serde_json::{Value, json};

use crate::{
    arguments::{AnswerArguments, Common, Finished, ForkArguments, PruneArguments, RunArgument},
    input::{Given, word_or_json},
    screen::Screen,
    stop::{Result, Stop},
    view::DoneView,
    words::{counted, for_shell, plain, size},
};

use super::{Program, show::QUESTIONS};

pub(super) fn answer<W: Write>(
    arguments: &AnswerArguments,
    program: Program<'_>,
    screen: &mut Screen<W>,
) -> Result<()> {
    let AnswerArguments { id, node, step, answer, common } = arguments;
    let mut requests = Requests::open(&common.store)?;
    let asked = asked(id, node.as_deref(), *step, requests.reader())?;
    let mut give = |answer: Value| match &asked {
        Asked::At(node) => requests.answer(id.as_str(), node.as_str(), answer),
        Asked::Question(question) => requests.answer_question(question, answer),
    };
    match word_or_json(answer, "the answer")? {
        Given::Json(answer) => give(answer)?,
        Given::Word(word) => give(Value::String(word.clone())).map_err(|error| match error {
            AnswerError::Unfit { what, .. } => {
                Stop::failed(format!("the answer `{word}` is no JSON, and as a text it does not fit: {what}"))
            }
            error => error.into(),
        })?,
    }
    done(id, ("answer", "answered"), &requests, common, program, screen)
}

/// The question that an answer is for.
enum Asked {
    /// The one that is open at a node. The store knows more of one that is not: whether it was answered, and which node
    /// asks.
    At(String),
    Question(Box<Question>),
}

/// Finds the question that is meant: by its step, by its node, or the only one that is open.
fn asked(id: &str, node: Option<&str>, step: Option<u64>, reader: &Reader) -> Result<Asked> {
    let mut questions = reader.questions(id)?;
    questions.retain(|question| node.is_none_or(|node| question.node.as_str() == node));
    if let Some(step) = step {
        return at_step(id, step, questions);
    }
    if let Some(node) = node {
        return Ok(Asked::At(node.to_owned()));
    }
    questions.retain(Question::is_open);
    match questions.len() {
        0 => Err(Stop::failed(format!("run `{id}` does not wait for an answer"))),
        1 => Ok(Asked::Question(Box::new(questions.remove(0)))),
        _ => Err(which(id, &questions)),
    }
}

/// Finds the question of a step of the run itself: each child counts its steps by itself.
fn at_step(id: &str, step: u64, questions: Vec<Question>) -> Result<Asked> {
    let (own, of_children): (Vec<_>, Vec<_>) = questions.into_iter().partition(|question| question.run.as_str() == id);
    let open: BTreeSet<u64> = own.iter().filter(|question| question.is_open()).map(|question| question.step).collect();
    if let Some(question) = own.into_iter().find(|question| question.step == step) {
        return Ok(Asked::Question(Box::new(question)));
    }
    if let Some(question) = of_children.iter().rfind(|question| question.step == step) {
        let child = for_shell(question.run.as_str());
        return Err(Stop::failed(format!(
            "step {step} is one of a child of run `{id}`, say which: `runs answer {child} --step {step}`"
        )));
    }
    let steps: Vec<String> = open.iter().map(u64::to_string).collect();
    Err(Stop::failed(match *steps {
        [] => format!("run `{id}` does not ask at step {step}"),
        [ref one] => format!("run `{id}` does not ask at step {step}, but at step {one}"),
        _ => format!("run `{id}` does not ask at step {step}, but at steps {}", steps.join(", ")),
    }))
}

/// Names the open questions of a run, where the command did not say which one it answers.
fn which(id: &str, open: &[Question]) -> Stop {
    let named: Vec<_> =
        open.iter().take(QUESTIONS).map(|question| format!("--node {}", for_shell(question.node.as_str()))).collect();
    let more = match open.len() - named.len() {
        0 => String::new(),
        left => format!(" and {left} more, see `runs show --json`"),
    };
    let questions = counted(open.len() as u64, "open question");
    let which = format!("run `{id}` has {questions}, say which you answer: {}{more}", named.join(", "));
    Stop::Usage(plain(&which).into_owned())
}

pub(super) fn cancel<W: Write>(arguments: &RunArgument, program: Program<'_>, screen: &mut Screen<W>) -> Result<()> {
    let mut requests = Requests::open(&arguments.common.store)?;
    requests.cancel(arguments.id.as_str())?;
    done(&arguments.id, ("cancel", "to be cancelled"), &requests, &arguments.common, program, screen)
}

pub(super) fn retry<W: Write>(arguments: &RunArgument, program: Program<'_>, screen: &mut Screen<W>) -> Result<()> {
    let mut requests = Requests::open(&arguments.common.store)?;
    requests.retry_failed(arguments.id.as_str())?;
    done(&arguments.id, ("retry", "to be retried"), &requests, &arguments.common, program, screen)
}

pub(super) fn delete<W: Write>(arguments: &RunArgument, screen: &mut Screen<W>) -> Result<()> {
    let RunArgument { id, common } = arguments;
    let mut requests = Requests::open(&common.store)?;
    requests.delete(id.as_str())?;
    if common.json {
        let driver = requests.reader().driver()?;
        return screen.json(&DoneView { run: id, request: "delete", status: None, driver });
    }
    screen.line(&format!("run `{id}` is deleted"))
}

pub(super) fn fork<W: Write>(arguments: &ForkArguments, program: Program<'_>, screen: &mut Screen<W>) -> Result<()> {
    let ForkArguments { id, step, to, set, common } = arguments;
    let mut requests = Requests::open(&common.store)?;
    let mut state = requests.reader().state(id.as_str(), Some(*step))?;
    for change in set {
        change.put(&mut state)?;
    }
    requests.fork(id.as_str(), *step, to.as_str(), |copy| *copy = state)?;
    done(to, ("fork", &format!("forked from step {step} of run `{id}`")), &requests, common, program, screen)
}

pub(super) fn prune<W: Write>(arguments: &PruneArguments, screen: &mut Screen<W>) -> Result<()> {
    let mut prune = Prune::new();
    if let Some(age) = arguments.older_than {
        prune = prune.older_than(age);
    }
    if let Some(runs) = arguments.keep {
        prune = prune.keep(runs);
    }
    if let Some(flow) = &arguments.flow {
        prune = prune.flow(flow.clone());
    }
    for status in &arguments.status {
        prune = prune.status(status.status());
    }
    if arguments.dry_run {
        prune = prune.dry_run();
    }
    let pruned = Requests::open(&arguments.common.store)?.prune(&prune)?;
    if arguments.common.json {
        // A dry run cannot know by how much the file would shrink.
        let bytes = Some(pruned.bytes).filter(|_| !arguments.dry_run);
        return screen.json(&json!({ "runs": pruned.runs, "bytes": bytes, "dry_run": arguments.dry_run }));
    }
    let runs = counted(pruned.runs, "run");
    if arguments.dry_run {
        return screen.line(&format!("{runs} would be deleted"));
    }
    screen.line(&format!("{runs} deleted, the file is smaller by {}", size(pruned.bytes)))
}

impl Finished {
    fn status(self) -> Status {
        match self {
            Self::Ended => Status::Ended,
            Self::Failed => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }
}

/// Says which request was made, in JSON by its name and for people by its words, and which process will do it.
fn done<W: Write>(
    id: &str,
    (request, words): (&'static str, &str),
    requests: &Requests,
    common: &Common,
    program: Program<'_>,
    screen: &mut Screen<W>,
) -> Result<()> {
    let (driver, status) = (requests.reader().driver()?, requests.reader().run(id)?.status);
    if common.json {
        return screen.json(&DoneView { run: id, request, status: Some(status), driver });
    }
    if status.is_final() {
        return screen.line(&format!("run `{id}` is {status}"));
    }
    screen.line(&format!("run `{id}` is {words}: {}", who_takes_it_up(driver, program, &common.store)))
}

/// Says which process acts on a request in the store.
fn who_takes_it_up(driver: Option<u32>, program: Program<'_>, store: &Path) -> String {
    match driver {
        Some(pid) => format!("process {pid} takes it up"),
        None if program.drives => {
            format!("`{} resume --store {}` takes it up", program.typed, for_shell(&store.to_string_lossy()))
        }
        None => "the program that drives the store takes it up when it starts".to_owned(),
    }
}
