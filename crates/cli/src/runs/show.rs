//! `runs show`: all that is known of a run, except for its states.

use std::{collections::BTreeMap, io::Write, path::Path};

use flowstone_core::Usage;
use flowstone_durable::{Question, Reader, RunInfo, Status, StepInfo};

use crate::{
    arguments::ShowArguments,
    graph::restarts_whole,
    screen::{self, Screen, cell, cell_or_dash, compact},
    stop::Result,
    view::{ChildrenView, QuestionView, RunView, ShowView, StepView, UsageView},
    words::{at, counted, exact, size, took, used},
};

/// The most errors of retried attempts that people are shown; `--json` has all that are kept.
const RETRIES: usize = 20;

/// The most open questions that people are shown; `--json` has all.
pub(super) const QUESTIONS: usize = 20;

/// A run as the store has it.
struct Shown {
    run: RunInfo,
    /// The calls, tokens and money that it has used, its children included.
    usage: Usage,
    driver: Option<u32>,
    steps: Vec<StepInfo>,
    questions: Vec<Question>,
    items_done: u64,
    children: Vec<RunInfo>,
    restarts_whole: Vec<String>,
}

pub(super) fn show<W: Write>(arguments: &ShowArguments, program: &str, screen: &mut Screen<W>) -> Result<()> {
    let shown = Shown::read(arguments)?;
    if arguments.common.json {
        return screen.json(&shown.view(arguments.children));
    }
    shown.head(screen)?;
    shown.steps(screen)?;
    shown.retries(screen)?;
    shown.question(program, &arguments.common.store, screen)?;
    shown.rest(arguments.children, screen)
}

impl Shown {
    fn read(arguments: &ShowArguments) -> Result<Self> {
        let reader = Reader::open(&arguments.common.store)?;
        let id = arguments.id.as_str();
        let run = reader.run(id)?;
        let limit = u64::from(arguments.limit);
        let from = arguments.from.unwrap_or_else(|| (run.step + 1).saturating_sub(limit));
        let steps = reader.steps(id, from, arguments.limit as usize)?;
        let questions = if run.status.is_final() { Vec::new() } else { reader.open_questions(id)? };
        let graph =
            reader.flows()?.into_iter().find(|flow| flow.name == run.flow && flow.fingerprint == run.fingerprint);
        Ok(Self {
            usage: reader.usage(id)?,
            driver: reader.driver()?,
            steps,
            questions,
            items_done: reader.items_done(id)?,
            children: reader.children(id)?,
            restarts_whole: graph.map(|flow| restarts_whole(&flow.graph)).unwrap_or_default(),
            run,
        })
    }

    fn view(&self, children: bool) -> ShowView<'_> {
        ShowView {
            run: RunView::of(&self.run),
            usage: UsageView::of(&self.usage),
            driver: self.driver,
            steps: self.steps.iter().map(StepView::of).collect(),
            earlier_steps: self.earlier(),
            later_steps: self.later(),
            question: self.questions.first().map(QuestionView::of),
            questions: self.questions.iter().map(QuestionView::of).collect(),
            items_done: self.items_done,
            children: ChildrenView {
                total: self.children.len() as u64,
                by_status: self.by_status(),
                runs: children.then(|| RunView::all(&self.children)),
            },
            restarts_whole: self.restarts_whole.clone(),
        }
    }

    fn earlier(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.step)
    }

    fn later(&self) -> u64 {
        self.steps.last().map_or(0, |step| self.run.step.saturating_sub(step.step))
    }

    fn by_status(&self) -> BTreeMap<Status, u64> {
        let mut counts = BTreeMap::new();
        for child in &self.children {
            *counts.entry(child.status).or_insert(0) += 1;
        }
        counts
    }

    fn head<W: Write>(&self, screen: &mut Screen<W>) -> Result<()> {
        let run = &self.run;
        let step = match (&run.node, &run.action) {
            (Some(node), _) => format!("{0}, next is visit {0}, of node `{node}`", run.step),
            (None, Some(action)) => format!("{}, the last, with action `{action}`", run.step),
            (None, None) => run.step.to_string(),
        };
        let driver = self.driver.map_or_else(|| "nobody drives the store".to_owned(), |pid| format!("process {pid}"));
        let parent = run.parent.as_ref().map(|parent| match run.item {
            Some(item) => format!("{parent}, item {item}"),
            None => parent.to_string(),
        });
        let rows = [
            ("run", Some(run.id.to_string())),
            ("flow", Some(format!("{} (version {})", run.flow, run.fingerprint))),
            ("status", Some(run.status.to_string())),
            ("refused", run.refused.clone()),
            ("waits", run.queued_at.map(|since| format!("for its turn, since {}", at(since)))),
            (
                "resumed",
                (run.resumes > 0)
                    .then(|| format!("{} since its process died in this visit", counted(run.resumes, "time"))),
            ),
            ("step", Some(step)),
            ("started", Some(at(run.created_at))),
            ("changed", Some(at(run.changed_at))),
            ("wakes", run.wake_at.map(at)),
            ("child of", parent),
            ("used", used(&self.usage)),
            ("driver", Some(driver).filter(|_| !run.status.is_final())),
        ];
        for (key, value) in rows {
            if let Some(value) = value {
                screen.line(&format!("{key:<9} {value}"))?;
            }
        }
        let Some(failure) = &run.error else { return Ok(()) };
        // The message names the node, the item and the attempts.
        let terminal = if failure.terminal { " (no further attempt can help)" } else { "" };
        screen.line(&format!("failed    {}{terminal}", failure.message))
    }

    fn steps<W: Write>(&self, screen: &mut Screen<W>) -> Result<()> {
        screen.gap()?;
        if self.earlier() > 0 {
            screen.line(&format!("{} before: --from 0", counted(self.earlier(), "step")))?;
        }
        let mut table = screen::table(self.columns());
        for step in &self.steps {
            let items = step.items.map(|items| format!("{}, {} recalled", items.recorded, items.recalled));
            let start = step.node.is_none();
            let mut row = vec![
                cell(step.step.to_string()),
                cell_or_dash(step.step.checked_sub(1).map(|visit| visit.to_string()).as_deref()),
                cell(step.node.as_ref().map_or("(start)", |node| node.as_str())),
                cell_or_dash(step.action.as_ref().map(|action| action.as_str())),
                cell(step.next.as_ref().map_or("(end)", |node| node.as_str())),
                cell(exact(step.started_at)),
                cell_or_dash(Some(took(step.took)).filter(|_| !start).as_deref()),
                cell_or_dash(Some(step.attempts.to_string()).filter(|_| !start).as_deref()),
                cell_or_dash(Some(step.retries.len().to_string()).filter(|_| !start).as_deref()),
                cell_or_dash(items.as_deref()),
                cell(size(step.state_size)),
                cell(size(step.stored_size)),
            ];
            row.push(cell_or_dash(used(&step.usage).as_deref()));
            row.truncate(self.columns().len());
            table.add_row(row);
        }
        screen.table(table)?;
        if self.later() > 0 {
            let next = self.run.step - self.later() + 1;
            screen.line(&format!("{} after: --from {next}", counted(self.later(), "step")))?;
        }
        Ok(())
    }

    /// The columns of the table of steps. Of a run that uses no paid services all would be empty in the last.
    fn columns(&self) -> &'static [&'static str] {
        const COLUMNS: [&str; 13] = [
            "STEP", "VISIT", "NODE", "ACTION", "NEXT", "STARTED", "TOOK", "ATTEMPTS", "RETRIED", "ITEMS", "STATE",
            "STORED", "USED",
        ];
        match self.steps.iter().any(|step| step.usage != Usage::default()) {
            true => &COLUMNS,
            false => &COLUMNS[..12],
        }
    }

    fn retries<W: Write>(&self, screen: &mut Screen<W>) -> Result<()> {
        let retries: Vec<_> =
            self.steps.iter().flat_map(|step| step.retries.iter().map(move |retry| (step, retry))).collect();
        if retries.is_empty() {
            return Ok(());
        }
        screen.gap()?;
        for (step, retry) in retries.iter().take(RETRIES) {
            let node = step.node.as_ref().map_or("", |node| node.as_str());
            let item = retry.item.map_or_else(String::new, |item| format!(", item {item}"));
            let wait = if retry.wait.is_zero() { String::new() } else { format!(" (next after {})", took(retry.wait)) };
            let (step, attempt, error) = (step.step, u64::from(retry.attempt) + 1, &retry.error);
            screen.line(&format!("step {step}, node `{node}`{item}: attempt {attempt} failed: {error}{wait}"))?;
        }
        match retries.len() - retries.len().min(RETRIES) {
            0 => Ok(()),
            left => screen.line(&format!("{} more: --json", counted(left as u64, "failed attempt"))),
        }
    }

    fn question<W: Write>(&self, program: &str, store: &Path, screen: &mut Screen<W>) -> Result<()> {
        let Some(question) = self.questions.first() else { return Ok(()) };
        screen.gap()?;
        if self.questions.len() > 1 {
            self.more_questions(screen)?;
        }
        for line in super::question::lines(question, program, store) {
            screen.line(&line)?;
        }
        Ok(())
    }

    /// The questions of children, side by side.
    fn more_questions<W: Write>(&self, screen: &mut Screen<W>) -> Result<()> {
        screen.line(&format!("{}, in any order:", counted(self.questions.len() as u64, "open question")))?;
        let mut table = screen::table(&["NODE", "STEP", "ASKED", "EXPIRES", "ASKS"]);
        for question in self.questions.iter().take(QUESTIONS) {
            table.add_row(vec![
                cell(question.node.to_string()),
                cell(question.step.to_string()),
                cell(at(question.asked_at)),
                cell_or_dash(question.expires_at.map(at).as_deref()),
                cell(compact(&question.question)),
            ]);
        }
        screen.table(table)?;
        match self.questions.len().saturating_sub(QUESTIONS) {
            0 => {}
            left => screen.line(&format!("{} more: --json", counted(left as u64, "question")))?,
        }
        screen.gap()
    }

    fn rest<W: Write>(&self, children: bool, screen: &mut Screen<W>) -> Result<()> {
        if self.items_done > 0 || !self.children.is_empty() || !self.restarts_whole.is_empty() {
            screen.gap()?;
        }
        if self.items_done > 0 {
            screen.line(&format!("items     {} done in the visit under way", self.items_done))?;
        }
        if !self.children.is_empty() {
            let by_status: Vec<_> =
                self.by_status().into_iter().map(|(status, count)| format!("{count} {status}")).collect();
            screen.line(&format!("children  {}: {}", self.children.len(), by_status.join(", ")))?;
        }
        for node in &self.restarts_whole {
            screen.line(&format!("note      batch `{node}` is not journaled: after a crash it restarts whole"))?;
        }
        if children && !self.children.is_empty() {
            screen.gap()?;
            screen.table(super::table(&self.children))?;
        }
        Ok(())
    }
}
