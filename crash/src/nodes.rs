//! The nodes of the random flows: each writes a line into the ledger, may take a little time, and may fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flowstone::{Action, Ask, AsyncBatchNode, AsyncNode, Context, Node, NodeError, Result};
use serde::{Deserialize, Serialize};

use crate::{
    answers,
    at_work::AtWork,
    ledger::{Deed, Ledger, Line},
    poison::Poison,
    random::{Random, mix},
    version::Version,
};

/// The state of every run, and of every child.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The name of the run, or of a child: the run's name with the place of the child.
    pub(crate) who: String,
    /// A digest of all deeds so far.
    pub(crate) digest: u64,
    /// The number of visits of each node.
    pub(crate) turns: BTreeMap<String, u32>,
    /// The answer to each of its questions, in order; [`NOBODY`] for one that expired.
    pub(crate) answers: Vec<String>,
    /// Notes of what each visit did, in order: they grow, as the state of a chat does.
    pub(crate) notes: Vec<String>,
    /// Text that takes room and never changes.
    pub(crate) ballast: String,
}

impl Job {
    pub(crate) fn new(who: String, seed: u64, ballast: usize) -> Self {
        Self { who, digest: mix(seed), ballast: "lorem ipsum ".repeat(ballast / 12), ..Self::default() }
    }

    /// Adds the result of a visit.
    pub(crate) fn absorb(&mut self, node: &str, made: u64) {
        self.digest = mix(self.digest ^ made);
        *self.turns.entry(node.to_owned()).or_default() += 1;
        self.notes.push(format!("{node} {made:08x}"));
    }

    fn turn(&self, node: &str) -> u32 {
        self.turns.get(node).copied().unwrap_or_default()
    }

    /// Returns the input of a node: different in each of its visits, the same when a visit is made again.
    fn input(&self, node: &str) -> Input {
        let name = node.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        Input { who: self.who.clone(), number: mix(self.digest ^ name ^ u64::from(self.turn(node))), item: None }
    }
}

/// The input that `prep` reads.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Input {
    who: String,
    number: u64,
    /// The place of an item in the first version of its batch.
    item: Option<usize>,
}

/// The world that the nodes of a process share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ledger: Arc<Ledger>,
    /// The runs whose broken nodes were mended, so that they can be retried.
    pub(crate) mended: Mutex<BTreeSet<String>>,
    /// `true` in the ideal world, in which nothing takes time and nothing is broken: its runs, without a store, are
    /// compared with the others.
    pub(crate) ideal: bool,
    /// The version of the lists that batches have, unless it is the first.
    pub(crate) lists: Option<u64>,
    /// The runs that are at work.
    pub(crate) at_work: AtWork,
    /// The runs that kill this process.
    pub(crate) poison: Poison,
}

impl World {
    pub(crate) fn ideal() -> Arc<Self> {
        let ledger = Arc::new(Ledger::Memory(Mutex::default()));
        let (mended, at_work, poison) = (Mutex::default(), AtWork::default(), Poison::default());
        Arc::new(Self { ledger, mended, ideal: true, lists: None, at_work, poison })
    }

    pub(crate) fn real(ledger: Arc<Ledger>, version: Version, at_work: AtWork, poison: Poison) -> Arc<Self> {
        Arc::new(Self { ledger, mended: Mutex::default(), ideal: false, lists: version.lists, at_work, poison })
    }

    pub(crate) fn mend(&self, run: &str) {
        self.mended.lock().unwrap_or_else(PoisonError::into_inner).insert(run.to_owned());
    }

    fn is_mended(&self, run: &str) -> bool {
        self.ideal || self.mended.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// Returns a time, which is none in the ideal world.
    pub(crate) fn time(&self, millis: u64) -> Duration {
        Duration::from_millis(if self.ideal { 0 } else { millis })
    }

    fn deed(&self, deed: Deed) {
        self.write(Line::Deed(deed));
    }

    pub(crate) fn write(&self, line: Line) {
        if let Err(error) = self.ledger.write(line) {
            crate::child::give_up(&format!("{}: {error}", crate::ledger::FULL));
        }
    }
}

/// The trouble that a node can make.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// `true` if some first attempts fail.
    pub(crate) flaky: bool,
    /// `true` if it fails for good until somebody retries the run; also in the next process, if this one dies first.
    pub(crate) broken: bool,
    /// `true` if it kills its process, in the runs that are planned to do so.
    pub(crate) poison: bool,
}

impl Trouble {
    pub(crate) fn flaky() -> Self {
        Self { flaky: true, ..Self::default() }
    }

    pub(crate) fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }
}

/// Work of one node on one input or item.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) world: Arc<World>,
    pub(crate) name: String,
    pub(crate) trouble: Trouble,
    /// The longest time that it takes, in milliseconds.
    pub(crate) most: u64,
    /// The number of visits after which it goes on; before that, it goes back.
    pub(crate) turns: u32,
    /// Items of a batch.
    pub(crate) items: usize,
}

impl Work {
    fn begin(&self, input: &Input, cx: &Context) -> Result<u64> {
        self.world.deed(Deed::of(cx, &input.who, input.item));
        let made = mix(input.number);
        let run = cx.run_id();
        if self.trouble.broken && is_first(input) && !self.world.is_mended(run.as_str()) {
            // The run is not retried before it has failed.
            self.world.mend(run.as_str());
            return Err(NodeError::terminal("broken until somebody mends it"));
        }
        if self.trouble.flaky && u64::from(cx.attempt()) < made % 3 {
            return Err(NodeError::new("not yet"));
        }
        Ok(made)
    }

    fn time(&self, made: u64) -> Duration {
        self.world.time((made >> 8) % (self.most + 1))
    }

    /// Returns the time to wait before it kills the process, if it has to.
    fn dies_in(&self, input: &Input, cx: &Context, made: u64) -> Option<Duration> {
        let run = cx.run_id();
        let dies = self.trouble.poison
            && is_first(input)
            && self.world.poison.is_deadly(run.as_str())
            && !self.world.is_mended(run.as_str());
        dies.then(|| Poison::wait(made))
    }

    async fn work(&self, input: &Input, cx: &Context) -> Result<u64> {
        let _at_work = self.world.at_work.begin(cx.run_id().as_str());
        let made = self.begin(input, cx)?;
        if let Some(wait) = self.dies_in(input, cx, made) {
            tokio::time::sleep(wait).await;
            crate::child::abort(&self.world, cx.run_id().as_str());
        }
        let time = self.time(made);
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        Ok(made)
    }

    fn block(&self, input: &Input, cx: &Context) -> Result<u64> {
        let _at_work = self.world.at_work.begin(cx.run_id().as_str());
        let made = self.begin(input, cx)?;
        if let Some(wait) = self.dies_in(input, cx, made) {
            std::thread::sleep(wait);
            crate::child::abort(&self.world, cx.run_id().as_str());
        }
        std::thread::sleep(self.time(made));
        Ok(made)
    }

    fn end(&self, job: &mut Job, made: u64) -> Action {
        job.absorb(&self.name, made);
        if job.turn(&self.name) < self.turns { "again".into() } else { "on".into() }
    }
}

/// Returns `true` if the node may make trouble. In a batch only one item does, one that every version has.
fn is_first(input: &Input) -> bool {
    input.item.is_none_or(|item| item == 1)
}

/// Work that awaits.
#[derive(Debug, Clone)]
pub(crate) struct Awaiting(pub(crate) Work);

impl AsyncNode<Job> for Awaiting {
    type Prep = Input;
    type Exec = u64;
    type Action = Action;

    async fn prep(&self, job: &Job) -> Result<Input> {
        Ok(job.input(&self.0.name))
    }

    async fn exec(&self, input: &Input, cx: &Context) -> Result<u64> {
        self.0.work(input, cx).await
    }

    async fn post(&self, job: &mut Job, _: Input, made: u64) -> Result<Action> {
        Ok(self.0.end(job, made))
    }
}

/// Work that blocks a thread.
#[derive(Debug, Clone)]
pub(crate) struct Blocking(pub(crate) Work);

impl Node<Job> for Blocking {
    type Prep = Input;
    type Exec = u64;
    type Action = Action;

    fn prep(&self, job: &Job) -> Result<Input> {
        Ok(job.input(&self.0.name))
    }

    fn exec(&self, input: &Input, cx: &Context) -> Result<u64> {
        self.0.block(input, cx)
    }

    fn post(&self, job: &mut Job, _: Input, made: u64) -> Result<Action> {
        Ok(self.0.end(job, made))
    }
}

/// Work on items.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) work: Work,
    /// The version of its list, unless it is the first.
    pub(crate) version: Option<u64>,
}

impl AsyncBatchNode<Job> for Batch {
    type Item = Input;
    type Output = u64;
    type Outcome = u64;
    type Action = Action;

    async fn prep(&self, job: &Job) -> Result<Vec<Input>> {
        let Input { who, number, .. } = job.input(&self.work.name);
        let item = |item| Input { who: who.clone(), number: mix(number ^ item as u64), item: Some(item) };
        Ok(self.list().into_iter().map(item).collect())
    }

    async fn exec(&self, item: &Input, cx: &Context) -> Result<u64> {
        self.work.work(item, cx).await
    }

    async fn post(&self, job: &mut Job, items: Vec<Input>, made: Vec<u64>) -> Result<Action> {
        let mut always = vec![0; always(self.work.items)];
        for (item, made) in items.iter().zip(made) {
            if made != mix(item.number) {
                crate::child::give_up(&format!("{item:?} was given what another has made"));
            }
            if let Some(place) = item.item.and_then(|item| always.get_mut(item)) {
                *place = made;
            }
        }
        Ok(self.work.end(job, always.into_iter().fold(0, |sum, made| mix(sum ^ made))))
    }
}

impl Batch {
    /// Returns the items of this version of the program, by their places in the first version. They are in another
    /// order, and some of the last ones are missing.
    fn list(&self) -> Vec<usize> {
        let Work { name, items, .. } = &self.work;
        let mut list: Vec<usize> = (0..*items).collect();
        if let Some(version) = self.version {
            let mut random = Random::of(version, name);
            list.retain(|item| *item < always(*items) || random.one_in(2));
            random.shuffle(&mut list);
        }
        list
    }
}

/// Returns the number of items of a batch that are in every version, and so in the state.
pub(crate) fn always(items: usize) -> usize {
    items - items / 3
}

/// A question, answered with yes or no.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) world: Arc<World>,
    pub(crate) name: String,
    /// `true` if it expires.
    pub(crate) expires: bool,
}

/// The text in a state in the place of the answer to a question that expired.
pub(crate) const NOBODY: &str = "nobody";

impl Question {
    fn text(job: &Job) -> String {
        format!("{}?{}", job.who, job.answers.len())
    }

    /// Asks and answers itself.
    pub(crate) fn answered(&self, job: &mut Job) -> Action {
        let answer = answers::to(&Self::text(job));
        self.goes_on(job, Some(answer))
    }

    /// Goes on after a question. The result is the same if it was answered or has expired, so that one run in memory
    /// stands for both.
    fn goes_on(&self, job: &mut Job, answer: Option<bool>) -> Action {
        let (text, number) = (Self::text(job), job.answers.len());
        self.world.deed(Deed::of_question(&job.who, number, self.expires, answer.is_none()));
        let made = answer.unwrap_or_else(|| answers::to(&text));
        job.answers.push(answer.map_or_else(|| NOBODY.to_owned(), |answer| answer.to_string()));
        job.absorb(&self.name, u64::from(made));
        "on".into()
    }
}

impl Ask<Job> for Question {
    type Question = String;
    type Answer = bool;
    type Action = Action;

    fn ask(&self, job: &Job) -> Result<String> {
        Ok(Self::text(job))
    }

    fn expires(&self, job: &Job) -> Option<Duration> {
        self.expires.then(|| answers::stands(&Self::text(job)))
    }

    fn expired(&self, job: &mut Job) -> Result<Action> {
        Ok(self.goes_on(job, None))
    }

    fn post(&self, job: &mut Job, answer: bool) -> Result<Action> {
        Ok(self.goes_on(job, Some(answer)))
    }
}
