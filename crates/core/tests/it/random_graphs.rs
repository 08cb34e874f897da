//! Random flows of string actions, run by the engine and by a naive interpreter: both visit the same nodes and end the
//! same way (SEMANTICS rows 10 to 13 and 18).

use crate::common::Lcg;
use flowstone_core::{
    Action, AsyncFlow, AsyncNode, BuildError, Context, END, Fault, Flow, Node, Outcome, Result, RunError, RunOptions,
    Unrouted,
};

const GRAPHS: usize = 500;
const MOST_VISITS: u64 = 80;
const ACTIONS: [&str; 5] = ["", "a", "b", "c", "odd"];

/// The parts that nodes share: which were visited, and the source of their actions.
struct State {
    visited: Vec<u32>,
    random: Lcg,
}

impl State {
    fn new(seed: u64) -> Self {
        Self { visited: Vec::new(), random: Lcg(seed) }
    }

    fn visit(&mut self, id: u32) -> &'static str {
        self.visited.push(id);
        // One in thirteen is routed nowhere.
        ACTIONS[self.random.below(13) / 3]
    }
}

/// A flow as data.
struct Spec {
    name: String,
    elements: Vec<Element>,
    start: usize,
    unrouted: Unrouted,
}

struct Element {
    name: String,
    what: What,
    edges: Vec<(&'static str, Option<usize>)>,
}

enum What {
    Node(u32),
    Flow(Spec),
}

impl Spec {
    /// Makes up a flow in which every element can be reached; it may hold flows down to `depth`.
    fn random(random: &mut Lcg, depth: usize, ids: &mut u32) -> Self {
        let count = 1 + random.below(6);
        let edges: Vec<_> = (0..count).map(|_| Self::random_edges(random, count)).collect();
        let mut reached = vec![0];
        let mut next = 0;
        while let Some(at) = reached.get(next) {
            for target in edges[*at].iter().filter_map(|(_, target)| *target) {
                if !reached.contains(&target) {
                    reached.push(target);
                }
            }
            next += 1;
        }
        *ids += 1;
        let name = format!("flow {ids}");
        let elements = reached.iter().map(|old| {
            *ids += 1;
            let name = format!("{ids}");
            let what = if depth > 0 && random.below(4) == 0 {
                What::Flow(Self::random(random, depth - 1, ids))
            } else {
                What::Node(*ids)
            };
            let place = |target: usize| reached.iter().position(|old| *old == target);
            let edges = edges[*old].iter().map(|(action, target)| (*action, target.and_then(place))).collect();
            Element { name, what, edges }
        });
        let elements = elements.collect();
        let unrouted = if random.below(2) == 0 { Unrouted::End } else { Unrouted::Error };
        Self { name, elements, start: 0, unrouted }
    }

    fn random_edges(random: &mut Lcg, count: usize) -> Vec<(&'static str, Option<usize>)> {
        let all = &ACTIONS[..4];
        let mut edges = Vec::new();
        if random.below(10) == 0 {
            return edges;
        }
        for action in all {
            if random.below(8) > 0 {
                let target = random.below(count + 1);
                edges.push((*action, (target < count).then_some(target)));
            }
        }
        edges
    }

    /// Runs the flow as the rules say, without any preparation: its exit, or why it stops.
    fn interpret(&self, path: &str, state: &mut State) -> Result<String, String> {
        let mut at = self.start;
        loop {
            let Element { name, what, edges } = &self.elements[at];
            let path = format!("{path}{name}");
            let action = match what {
                What::Node(_) if state.visited.len() as u64 >= MOST_VISITS => {
                    return Err(format!("too many before {path}"));
                }
                What::Node(id) => state.visit(*id).to_owned(),
                What::Flow(inner) => inner.interpret(&format!("{path}/"), state)?,
            };
            let same = |label: &str| label == action || (label.is_empty() && action == "default");
            let action = if action.is_empty() { "default".to_owned() } else { action.clone() };
            match edges.iter().find(|(label, _)| same(label)) {
                Some((_, Some(next))) => at = *next,
                Some((_, None)) => return Ok(action),
                None if edges.is_empty() || self.unrouted == Unrouted::End => return Ok(action),
                None => return Err(format!("{action} is unrouted at {path}")),
            }
        }
    }
}

/// A sync node that notes its visit.
struct Draw(u32);

impl Node<State> for Draw {
    type Prep = ();
    type Exec = ();
    type Action = Action;

    fn prep(&self, _: &State) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    fn post(&self, state: &mut State, (): (), (): ()) -> Result<Action> {
        Ok(state.visit(self.0).into())
    }
}

/// An async node that notes its visit.
struct AsyncDraw(u32);

impl AsyncNode<State> for AsyncDraw {
    type Prep = ();
    type Exec = ();
    type Action = Action;

    async fn prep(&self, _: &State) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), _: &Context) -> Result<()> {
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn post(&self, state: &mut State, (): (), (): ()) -> Result<Action> {
        Ok(state.visit(self.0).into())
    }
}

macro_rules! build {
    ($build:ident, $flow:ident, $draw:ident) => {
        fn $build(spec: &Spec) -> Result<$flow<State>, BuildError> {
            let mut flow = $flow::builder(&spec.name);
            flow.unrouted(spec.unrouted);
            let mut handles = Vec::new();
            for element in &spec.elements {
                handles.push(match &element.what {
                    What::Node(id) => flow.add(&element.name, $draw(*id)),
                    What::Flow(inner) => flow.add(&element.name, $build(inner)?),
                });
            }
            for (element, from) in spec.elements.iter().zip(&handles) {
                for (action, target) in &element.edges {
                    match target {
                        Some(target) => flow.route(*from - *action >> handles[*target]),
                        None => flow.route(*from - *action >> END),
                    }
                }
            }
            flow.start(handles[spec.start]);
            flow.build()
        }
    };
}

build!(build_sync, Flow, Draw);
build!(build_async, AsyncFlow, AsyncDraw);

fn end(result: Result<Outcome, RunError>) -> Result<String, String> {
    match result {
        Ok(Outcome::Ended(action)) => Ok(action.to_string()),
        Err(RunError::TooManyVisits { node, .. }) => Err(format!("too many before {node}")),
        Err(RunError::Unrouted { node, action, .. }) => Err(format!("{action} is unrouted at {node}")),
        other => panic!("{other:?}"),
    }
}

/// The faults that a random flow may have: an inner flow's exits are known, and its edges do not fit them.
fn is_of_exits(fault: &Fault) -> bool {
    matches!(fault, Fault::UnroutedLabel { .. } | Fault::UnknownLabel { .. })
}

#[tokio::test]
async fn random_flows_run_as_a_naive_interpreter_says() {
    let options = RunOptions::new().max_visits(MOST_VISITS);
    let (mut built, mut visits, mut unrouted, mut seed) = (0, 0, 0, 0);

    while built < GRAPHS {
        seed += 1;
        let spec = Spec::random(&mut Lcg(seed), 3, &mut 0);
        let (sync, awaited) = match (build_sync(&spec), build_async(&spec)) {
            (Ok(sync), Ok(awaited)) => (sync, awaited),
            (sync, awaited) => {
                let (sync, awaited) = (sync.map(|_| ()).unwrap_err(), awaited.map(|_| ()).unwrap_err());
                assert!(sync.faults().iter().all(is_of_exits), "seed {seed}: {sync}");
                assert_eq!(sync, awaited, "seed {seed}");
                continue;
            }
        };
        built += 1;

        for run in 0..4 {
            let [mut naive, mut one, mut two] = [(); 3].map(|()| State::new(seed * 1_000 + run));
            let expected = spec.interpret("", &mut naive);
            let ends = [end(sync.run_with(&mut one, &options)), end(awaited.run_async_with(&mut two, &options).await)];

            assert_eq!(one.visited, naive.visited, "seed {seed}, run {run}, sync");
            assert_eq!(two.visited, naive.visited, "seed {seed}, run {run}, async");
            assert_eq!(ends, [expected.clone(), expected.clone()], "seed {seed}, run {run}");
            visits += naive.visited.len();
            unrouted += usize::from(expected.is_err_and(|reason| reason.contains("unrouted")));
        }
    }

    // The graphs are worth something: most runs go somewhere, and some end badly.
    assert!(visits > GRAPHS * 8 && unrouted > GRAPHS / 2, "{visits} visits, {unrouted} unrouted, {seed} seeds");
}
