//! What every run comes to when nothing is kept and nothing is killed: the flows in memory, by the same visits.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use flowstone::{AsyncFlow, Execution, RunOptions, Visit};
use serde_json::Value;

use crate::{
    flows::{build, name},
    ledger::Deed,
    nodes::{Job, World, answer},
    plan::{Fate, Plan, Script, fork_of},
    version::{Names, Version},
};

/// A run from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The state after each step; that of step 0 is the one that it starts with.
    pub(crate) states: Vec<Value>,
    /// The node of each visit.
    pub(crate) nodes: Vec<String>,
    /// What it does, by key and attempt.
    pub(crate) deeds: BTreeMap<(String, u32), Deed>,
}

impl Course {
    /// The number of its last step.
    pub(crate) fn last(&self) -> u64 {
        self.nodes.len() as u64
    }

    pub(crate) fn state(&self, step: u64) -> Option<&Value> {
        self.states.get(usize::try_from(step).ok()?)
    }
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
    state["asked"] = 0.into();
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
            visited = run.answer(pause, answer(&question).into())?;
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
    course.deeds = world.ledger.take().into_iter().map(|deed| ((deed.key.clone(), deed.attempt), deed)).collect();
    Ok(course)
}
