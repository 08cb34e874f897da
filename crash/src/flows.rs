//! Random flows, which a seed builds of chains, loops, flows in flows, batches, questions and sleeps.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use flowstone::{Action, AsyncFlow, END, NodeExt, Retry, Sleep, durable::FlowOptions};

use crate::{
    nodes::{Awaiting, Batch, Blocking, Job, Question, Trouble, Work, World},
    random::{Random, mix},
    version::{Names, plain},
};

/// The length from which on a wait is kept in the store. It is short, so that the waits of a test are kept.
pub(crate) const KEEP_WAITS: Duration = Duration::from_millis(20);

/// One node of a flow.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Work {
        blocking: bool,
        trouble: Trouble,
        wait: u64,
    },
    /// Goes back this many nodes until it was visited this many times.
    Loop {
        back: usize,
        turns: u32,
    },
    Nested(Vec<Self>),
    Batch {
        items: usize,
        limit: usize,
        kept: bool,
        trouble: Trouble,
        wait: u64,
    },
    Flows {
        children: u64,
        limit: usize,
        kept: bool,
        stages: Vec<Self>,
    },
    /// A question, which may expire.
    Ask {
        expires: bool,
    },
    Sleep(u64),
}

/// Returns flows that have all kinds of nodes between them, for any seed.
pub(crate) fn blueprints(seed: u64) -> Vec<Vec<Stage>> {
    let mut random = Random::of(seed, "flows");
    let mut deck: Vec<Stage> = (0..10).map(|kind| stage(&mut random, kind, 0)).collect();
    deck.extend((0..8).map(|_| any(&mut random, 0)));
    random.shuffle(&mut deck);
    let flows = deck.chunks(3).map(|chunk| {
        let mut stages = vec![work(&mut random)];
        stages.extend(chunk.iter().cloned());
        stages.push(work(&mut random));
        stages
    });
    let mut flows: Vec<Vec<Stage>> = flows.collect();
    let mut random = Random::of(seed, "questions");
    flows.iter_mut().for_each(|stages| ask_more(&mut random, stages, Asks::Runs));
    flows
}

/// Returns a flow with a node that kills its process in some of its runs: by itself, as an item, or in a child.
pub(crate) fn poisonous(random: &mut Random) -> Vec<Stage> {
    let trouble = Trouble { poison: true, ..Trouble::default() };
    let blocking = random.one_in(2);
    let poison = match random.below(4) {
        0 => batch(random, true, trouble),
        1 => {
            let stages = vec![Stage::Work { blocking, trouble, wait: 0 }];
            Stage::Flows { children: 1, limit: 1, kept: true, stages }
        }
        _ => Stage::Work { blocking, trouble, wait: 0 },
    };
    vec![work(random), poison, work(random)]
}

/// The kind of runs that may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Runs,
    /// The children of a batch flow that is journaled, as is all around it.
    Children,
    Nobody,
}

/// Lets some questions expire, and children ask and sleep.
fn ask_more(random: &mut Random, stages: &mut Vec<Stage>, asks: Asks) {
    for stage in &mut *stages {
        match stage {
            Stage::Ask { expires } => *expires = random.one_in(2),
            Stage::Nested(stages) => ask_more(random, stages, if asks == Asks::Runs { asks } else { Asks::Nobody }),
            Stage::Flows { kept, stages, .. } => {
                let asks = if *kept && asks != Asks::Nobody { Asks::Children } else { Asks::Nobody };
                ask_more(random, stages, asks);
            }
            _ => {}
        }
    }
    if asks == Asks::Children && random.one_in(2) {
        // A child that only asks is recognized by its first deed.
        stages.insert(0, Stage::Work { blocking: false, trouble: Trouble::default(), wait: 0 });
        if random.one_in(2) {
            stages.push(Stage::Sleep(random.between(15, 40)));
        }
        stages.push(Stage::Ask { expires: random.one_in(2) });
    }
}

fn any(random: &mut Random, depth: u32) -> Stage {
    let kind = random.below(if depth == 0 { 10 } else { 7 });
    stage(random, kind, depth)
}

/// Returns a stage of a flow in a flow, of any kind but another flow in a flow.
fn nested(random: &mut Random) -> Stage {
    let kind = random.below(8);
    stage(random, kind, 0)
}

/// Returns a stage of one of ten kinds. The last three are not for children, which can neither ask nor be retried
/// alone.
fn stage(random: &mut Random, kind: u64, depth: u32) -> Stage {
    match kind {
        0 => work(random),
        1 => Stage::Work { blocking: false, trouble: Trouble::flaky(), wait: wait(random) },
        2 => Stage::Loop { back: usize::try_from(random.below(3)).unwrap_or_default(), turns: turns(random) },
        3 | 4 => {
            let flaky = random.one_in(2);
            batch(random, kind == 3, Trouble { flaky, ..Trouble::default() })
        }
        5 if depth < 2 => flows(random, true, depth),
        6 if depth < 2 => {
            let kept = random.one_in(2);
            flows(random, kept, depth)
        }
        5 | 6 => Stage::Sleep(random.between(1, 40)),
        7 => Stage::Ask { expires: false },
        8 => Stage::Nested((0..random.between(1, 3)).map(|_| nested(random)).collect()),
        _ if random.one_in(2) => batch(random, true, Trouble::broken()),
        _ => Stage::Work { blocking: false, trouble: Trouble::broken(), wait: 0 },
    }
}

fn work(random: &mut Random) -> Stage {
    if random.one_in(4) {
        return Stage::Sleep(random.between(1, 60));
    }
    Stage::Work { blocking: random.one_in(4), trouble: Trouble::default(), wait: 0 }
}

fn batch(random: &mut Random, kept: bool, trouble: Trouble) -> Stage {
    let limit = if random.one_in(3) { 1 } else { usize::try_from(random.between(2, 6)).unwrap_or(2) };
    Stage::Batch { items: usize::try_from(random.between(2, 9)).unwrap_or(2), limit, kept, trouble, wait: wait(random) }
}

fn flows(random: &mut Random, kept: bool, depth: u32) -> Stage {
    let limit = usize::try_from(random.between(1, 3)).unwrap_or(1);
    let stages = (0..random.between(1, 3)).map(|_| any(random, depth + 1)).collect();
    Stage::Flows { children: random.between(2, 4), limit, kept, stages }
}

fn turns(random: &mut Random) -> u32 {
    u32::try_from(random.between(2, 4)).unwrap_or(2)
}

/// Returns a wait between attempts; every other one is long enough to be kept.
fn wait(random: &mut Random) -> u64 {
    if random.one_in(2) { random.between(1, 5) } else { random.between(20, 30) }
}

/// Returns the name of a seed's flow in the first version.
pub(crate) fn name(flow: usize) -> String {
    format!("flow{flow}")
}

/// Builds the flow of a blueprint, with the names of its nodes in this version.
pub(crate) fn build(name: &str, stages: &[Stage], world: &Arc<World>, names: &Names) -> Result<AsyncFlow<Job>> {
    let mut flow = AsyncFlow::builder(name);
    let mut nodes = Vec::new();
    for (at, stage) in stages.iter().enumerate() {
        nodes.push(add(&mut flow, (name, at), stage, (world, names))?);
    }
    for (at, stage) in stages.iter().enumerate() {
        let here = nodes[at];
        if let Stage::Loop { back, .. } = stage {
            flow.route(here - "again" >> nodes[at.saturating_sub(*back)]);
            if at + 1 == nodes.len() {
                flow.route(here - "on" >> END);
            }
        }
        if let Some(next) = nodes.get(at + 1) {
            flow.route(here - "on" >> *next);
        }
    }
    flow.start(nodes[0]);
    Ok(flow.build()?)
}

/// Returns the name of a node in the first version.
fn first_name(at: usize, stage: &Stage) -> String {
    match stage {
        Stage::Work { .. } => format!("work{at}"),
        Stage::Loop { .. } => format!("loop{at}"),
        Stage::Nested(_) => format!("nested{at}"),
        Stage::Batch { limit, items, kept: true, .. } => format!("kept{at}by{limit}of{items}"),
        Stage::Batch { limit, items, .. } => format!("batch{at}by{limit}of{items}"),
        Stage::Flows { kept: true, .. } => format!("keptflows{at}"),
        Stage::Flows { .. } => format!("flows{at}"),
        Stage::Ask { .. } => format!("ask{at}"),
        Stage::Sleep(_) => format!("sleeping{at}"),
    }
}

/// Adds the former names of a flow's nodes to its options.
pub(crate) fn renames(mut options: FlowOptions, stages: &[Stage], names: &Names) -> FlowOptions {
    for (at, stage) in stages.iter().enumerate() {
        let name = first_name(at, stage);
        options = match stage {
            Stage::Nested(stages) => renames(options, stages, &names.inside(&name)),
            Stage::Sleep(_) => names.inside(&name).rename(options, SLEEP),
            _ => names.rename(options, &name),
        };
    }
    options
}

type Builder = flowstone::Builder<Job, flowstone::AsyncKind>;

fn add(
    flow: &mut Builder,
    (outer, at): (&str, usize),
    stage: &Stage,
    (world, names): (&Arc<World>, &Names),
) -> Result<flowstone::At<Action>> {
    let first = first_name(at, stage);
    let work =
        |trouble, turns, items| Work { world: Arc::clone(world), name: first.clone(), trouble, most: 4, turns, items };
    let retry = |wait| Retry::attempts(3).fixed(world.time(wait));
    let (name, inner) = (names.now(&first), format!("{}-{at}", plain(outer)));
    Ok(match stage {
        Stage::Work { blocking: true, trouble, .. } => flow.add(name, Blocking(work(*trouble, 0, 0))),
        Stage::Work { trouble, wait, .. } => flow.add(name, Awaiting(work(*trouble, 0, 0)).retry(retry(*wait))),
        Stage::Loop { turns, .. } => flow.add(name, Awaiting(work(Trouble::default(), *turns, 0))),
        Stage::Nested(stages) => flow.add(name, build(&inner, stages, world, &names.inside(&first))?),
        Stage::Batch { items, limit, kept, trouble, wait } => {
            // Items that are not kept, and their keys, go by their places, so their list must stay the same.
            let version = world.lists.filter(|_| *kept && !names.unkept);
            let batch = Batch { work: work(*trouble, 0, *items), version }.retry(retry(*wait));
            match (*limit, *kept) {
                (1, true) => flow.add(name, batch.journaled()),
                (1, false) => flow.add(name, batch),
                (limit, true) => flow.add(name, batch.parallel(limit).journaled()),
                (limit, false) => flow.add(name, batch.parallel(limit)),
            }
        }
        Stage::Flows { children, limit, kept, stages } => {
            let (fork, join) = (fork(&first, *children), join(&first));
            let batch = build(&inner, stages, world, &names.of_children(*kept))?.batch(fork, join).parallel(*limit);
            if *kept { flow.add(name, batch.journaled()) } else { flow.add(name, batch) }
        }
        Stage::Ask { expires } => {
            let question = Question { world: Arc::clone(world), name: first, expires: *expires };
            match names.is_of_children() && world.ideal {
                // In memory a child cannot ask.
                true => flow.add(name, move |job: &mut Job| question.answered(job)),
                false => flow.add(name, question),
            }
        }
        Stage::Sleep(millis) => {
            // A `Sleep` has the action `()`. It is wrapped in a flow, so that its exit can have the name that all
            // others have.
            let mut asleep = AsyncFlow::<Job>::builder(inner);
            let sleep = asleep.add(names.inside(&first).now(SLEEP), Sleep::new(world.time(*millis)));
            asleep.start(sleep);
            flow.add(name, asleep.build()?.map_exit(|_| Action::from("on")))
        }
    })
}

/// The name of the sleeping node inside that flow.
const SLEEP: &str = "sleep";

fn fork(name: &str, children: u64) -> impl Fn(&Job) -> Vec<Job> + Send + Sync + 'static + use<> {
    let name = name.to_owned();
    move |job| {
        let turn = job.turns.get(&name).copied().unwrap_or_default();
        let child = |item| Job::new(format!("{}/{name}.{turn}.{item}", job.who), mix(job.digest ^ item), 24);
        (0..children).map(child).collect()
    }
}

fn join(name: &str) -> impl Fn(&mut Job, Vec<Job>) -> Action + Send + Sync + 'static + use<> {
    let name = name.to_owned();
    move |job, ended| {
        job.absorb(&name, ended.iter().fold(0, |sum, child| mix(sum ^ child.digest)));
        Action::from("on")
    }
}
