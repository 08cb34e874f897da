//! The expected end of every run: its flow runs in memory, with the same visits, and nothing is stored or killed.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::{
    AsyncFlow, RunOptions,
    driver::{Execution, Visit},
};
use serde_json::Value;

use crate::{
    answers,
    flows::{build, name},
    ledger::Deed,
    nodes::{Job, NOBODY, World},
    plan::{Fate, Plan, Script, fork_of},
    version::{Names, Version},
};

/// A run from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The state after each step; step 0 has the state with which it starts.
    pub(crate) states: Vec<Value>,
    /// The node of each visit.
    pub(crate) nodes: Vec<String>,
    /// Its deeds, by key and attempt; a question that can expire has both of its ends.
    pub(crate) deeds: BTreeMap<(String, u32), Deed>,
    /// The key of a deed of each child that does something, by the child's name in the state.
    pub(crate) children: BTreeMap<String, String>,
}

impl Course {
    /// The number of its last step.
    pub(crate) fn last(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Returns `true` if it has this state after a step; each of its questions may have been answered or have expired.
    pub(crate) fn has_state(&self, step: u64, found: &Value) -> bool {
        let state = usize::try_from(step).ok().and_then(|step| self.states.get(step));
        let Some(state) = state else { return false };
        let (wanted, mut found) = (answers_of(state), found.clone());
        let same = answers_of(&found).zip(wanted).is_some_and(|(found, wanted)| {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| found == NOBODY || found == wanted)
        });
        found["answers"] = state["answers"].clone();
        same && found == *state
    }
}

fn answers_of(state: &Value) -> Option<&Vec<Value>> {
    state["answers"].as_array()
}

/// The runs of a seed, by id; forks included.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) courses: BTreeMap<String, Course>,
}

impl Expected {
    /// Runs everything in memory.
    pub(crate) fn of(script: &Script) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Self::run(script))
    }

    async fn run(script: &Script) -> Result<Self> {
        let world = World::ideal();
        let mut expected = Self::default();
        for plan in &script.plans {
            let names = Names::new(Version::first(script.seed));
            let flow = build(&name(plan.flow), &script.flows[plan.flow], &world, &names)?;
            let options = RunOptions::new().id(plan.id.clone());
            let course = course(&mut flow.execution(plan.job.clone(), &options), &world).await?;
            if let Some((id, forked)) = forked(&flow, plan, &course, &world).await? {
                expected.courses.insert(id, forked);
            }
            expected.courses.insert(plan.id.clone(), course);
        }
        Ok(expected)
    }
}

async fn forked(
    flow: &AsyncFlow<Job>,
    plan: &Plan,
    course_of_run: &Course,
    world: &Arc<World>,
) -> Result<Option<(String, Course)>> {
    let Fate::Forked(step) = plan.fate else { return Ok(None) };
    if step >= course_of_run.last() {
        return Ok(None);
    }
    let id = fork_of(&plan.id);
    let place = usize::try_from(step)?;
    let mut state = course_of_run.states[place].clone();
    state["who"] = id.clone().into();
    state["answers"] = Value::Array(Vec::new());
    let (node, state) = (course_of_run.nodes[place].as_str().into(), serde_json::to_vec(&state)?);
    let mut running = flow.restored(&node, 0, &state, &RunOptions::new().id(id.clone()))?;
    Ok(Some((id, course(&mut running, world).await?)))
}

/// Makes visits until the end.
async fn course(run: &mut dyn Execution, world: &Arc<World>) -> Result<Course> {
    let mut course = Course { states: vec![serde_json::from_slice(&run.save()?)?], ..Course::default() };
    loop {
        let node = run.node().to_string();
        let mut visited = run.visit().await?;
        if let Visit::Pause(pause) = visited {
            let question = pause.question().as_str().context("a question that is no text")?.to_owned();
            visited = run.answer(pause, answers::to(&question).into())?;
        }
        course.nodes.push(node);
        course.states.push(serde_json::from_slice(&run.save()?)?);
        match visited {
            Visit::Next { .. } => {}
            Visit::End { .. } => break,
            other => bail!("a run in memory came to {other:?}"),
        }
        ensure!(course.nodes.len() < 500, "a random flow goes on for ever");
    }
    for deed in world.ledger.take() {
        if deed.who != deed.run && !deed.key.contains('?') {
            course.children.entry(deed.who.clone()).or_insert_with(|| deed.key.clone());
        }
        for deed in deed.other_way().into_iter().chain([deed]) {
            course.deeds.insert((deed.key.clone(), deed.attempt), deed);
        }
    }
    Ok(course)
}
