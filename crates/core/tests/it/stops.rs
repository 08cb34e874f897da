//! Where a run stops, and what is told to stop: each test is a way in which a stop was once missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flowstone_core::{
    Action, Ask, AsyncBatchNode, AsyncFlow, BatchNode, Context, Flow, Label, Node, NodeExt, Outcome, Result, RunError,
    RunOptions, TimedOut,
};
use futures_util::StreamExt;

use crate::common::{alone, blocking, ms};

/// A batch whose items do what a closure says, and count themselves.
struct Items<F> {
    count: usize,
    begun: Arc<AtomicUsize>,
    work: F,
}

impl<F: Fn(usize, &Context) -> Result<()> + Send + Sync + 'static> AsyncBatchNode<()> for Items<F> {
    type Item = usize;
    type Output = ();
    type Outcome = Result<()>;
    type Action = ();

    async fn prep(&self, (): &()) -> Result<Vec<usize>> {
        Ok((0..self.count).collect())
    }

    async fn exec(&self, item: &usize, cx: &Context) -> Result<()> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        (self.work)(*item, cx)
    }

    async fn post(&self, (): &mut (), _: Vec<usize>, _: Vec<Result<()>>) -> Result<()> {
        Ok(())
    }
}

fn busy(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_item_that_computes_is_told_when_its_run_is_dropped() {
    let told = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&told);
    let begun = Arc::new(AtomicUsize::new(0));
    let work = move |_: usize, cx: &Context| {
        let limit = Instant::now();
        while !cx.cancelled() && limit.elapsed() < Duration::from_secs(20) {
            std::hint::spin_loop();
        }
        heard.fetch_add(usize::from(cx.cancelled()), Ordering::SeqCst);
        Ok(())
    };
    let flow: AsyncFlow<()> = alone(Items { count: 1, begun: Arc::clone(&begun), work }.parallel(2).spawned());

    let run = tokio::spawn(async move { flow.run_async(&mut ()).await });
    while begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    run.abort();
    assert!(run.await.is_err());
    while told.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(ms(1)).await;
    }

    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn ready_items_stop_at_the_deadline() {
    let begun = Arc::new(AtomicUsize::new(0));
    let work = |_, _: &Context| {
        busy(ms(2));
        Ok(())
    };
    let flow: AsyncFlow<()> = alone(Items { count: 10_000, begun: Arc::clone(&begun), work }.parallel(1));

    let error = flow.run_async_with(&mut (), &RunOptions::new().deadline(ms(20))).await.expect_err("it is late");

    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
    assert!(begun.load(Ordering::SeqCst) < 10_000);
}

#[tokio::test]
async fn a_loop_that_never_waits_stops_at_the_deadline() {
    let mut flow = AsyncFlow::builder("loop");
    let again = flow.add("again", |visits: &mut u32| {
        busy(ms(2));
        *visits += 1;
        Action::from("again")
    });
    flow.start(again);
    flow.route(again - "again" >> again);
    let flow = flow.build().expect("it is right");
    let mut visits = 0;

    let error = flow.run_async_with(&mut visits, &RunOptions::new().deadline(ms(20))).await.expect_err("it is late");

    assert!(matches!(error, RunError::DeadlineExceeded { .. }), "{error}");
    assert!(visits < 200, "{visits} visits are many more than the deadline has room for");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_zero_is_over_at_once_in_both_kinds_of_flow() {
    let options = RunOptions::new().deadline(Duration::ZERO);
    let mut sync = Flow::builder("zero");
    let node = sync.add("node", |n: &mut u32| *n += 1);
    sync.start(node);
    let sync = sync.build().expect("it is right");
    let mut awaited = AsyncFlow::builder("outer");
    let node = awaited.add("zero", sync.clone());
    awaited.start(node);
    let awaited = awaited.build().expect("it is right");
    let mut n = 0;

    let errors = [sync.run_with(&mut n, &options), awaited.run_async_with(&mut n, &options).await];

    assert!(errors.iter().all(|result| matches!(result, Err(RunError::DeadlineExceeded { .. }))), "{errors:?}");
    assert_eq!(n, 0);
}

/// Blocking items, each of which takes some time and is counted.
struct Blocking {
    count: usize,
    begun: Arc<AtomicUsize>,
    time: Duration,
}

impl BatchNode<Vec<Result<()>>> for Blocking {
    type Item = ();
    type Output = ();
    type Outcome = Result<()>;
    type Action = ();

    fn prep(&self, _: &Vec<Result<()>>) -> Result<Vec<()>> {
        Ok(vec![(); self.count])
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.time);
        Ok(())
    }

    fn post(&self, shared: &mut Vec<Result<()>>, _: Vec<()>, outcomes: Vec<Result<()>>) -> Result<()> {
        *shared = outcomes;
        Ok(())
    }
}

#[test]
fn a_blocking_item_whose_time_was_over_in_the_queue_never_begins() {
    let begun = Arc::new(AtomicUsize::new(0));
    let node = Blocking { count: 4, begun: Arc::clone(&begun), time: ms(200) };
    let flow = alone(node.parallel(4).timeout(ms(50)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
    let mut results = Vec::new();

    let run = runtime.expect("a runtime").block_on(flow.run_async(&mut results));

    assert!(run.is_ok());
    assert!(results.iter().all(Result::is_err));
    assert!(begun.load(Ordering::SeqCst) <= 1, "the others waited for the only thread until their time was over");
}

#[tokio::test]
async fn what_a_blocking_attempt_gives_that_was_told_to_stop_is_discarded() {
    for fails in [false, true].repeat(10) {
        let told = blocking(move |cx| {
            while !cx.cancelled() {
                std::thread::sleep(ms(1));
            }
            if fails { Err("told to stop".into()) } else { Ok(()) }
        });
        let flow = alone(told.or(|_, _| Ok(())));

        let result = flow.run_async_with(&mut vec![], &RunOptions::new().deadline(ms(5))).await;

        assert!(matches!(result, Err(RunError::DeadlineExceeded { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn items_do_not_begin_when_the_time_of_the_visit_is_over() {
    let begun = Arc::new(AtomicUsize::new(0));
    let node = Blocking { count: 10, begun: Arc::clone(&begun), time: ms(30) };
    let flow = alone(node.total_timeout(ms(50)));
    let mut results = Vec::new();

    flow.run_async(&mut results).await.expect("errors are collected");

    let late = results.iter().filter_map(|result| result.as_ref().err()?.downcast_ref::<TimedOut>());
    assert!(late.clone().count() >= 8 && late.clone().all(|late| *late == TimedOut::Visit(ms(50))));
    assert!(begun.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_stream_keeps_what_one_item_emits_and_no_more() {
    let begun = Arc::new(AtomicUsize::new(0));
    let flow: AsyncFlow<()> =
        alone(Items { count: 10_000, begun: Arc::clone(&begun), work: |_, _: &Context| Ok(()) }.parallel(1));
    let mut state = ();
    let mut events = flow.stream(&mut state, RunOptions::new());

    for _ in 0..5 {
        events.next().await.expect("the run goes on");
    }

    assert!(begun.load(Ordering::SeqCst) <= 5, "a slow reader slows the run down");
}

#[test]
fn every_listener_hears_every_event() {
    let heard = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [first, second] = heard.clone();
    let count = |heard: &AtomicUsize| {
        heard.fetch_add(1, Ordering::SeqCst);
    };
    let options = RunOptions::new()
        .listen(move |_: &flowstone_core::Event| count(&first))
        .listen(move |_: &flowstone_core::Event| count(&second));
    let mut flow = Flow::builder("heard");
    let node = flow.add("node", |(): &mut ()| ());
    flow.start(node);

    flow.build().expect("it is right").run_with(&mut (), &options).expect("it succeeds");

    assert_eq!(heard.map(|count| count.load(Ordering::SeqCst)), [4, 4]);
}

/// Asks whether to go on.
struct GoOn;

impl Ask<u32> for GoOn {
    type Question = &'static str;
    type Answer = bool;
    type Action = ();

    fn ask(&self, _: &u32) -> Result<&'static str> {
        Ok("go on?")
    }

    fn post(&self, shared: &mut u32, answer: bool) -> Result<()> {
        *shared += u32::from(answer);
        Ok(())
    }
}

fn asking(name: &str) -> Flow<u32> {
    let mut flow = Flow::builder(name);
    let ask = flow.add("ask", GoOn);
    flow.start(ask);
    flow.build().expect("it is right")
}

#[test]
fn a_pause_belongs_to_its_flow_also_where_another_has_a_node_of_the_same_name() {
    let (pay, delete) = (asking("pay"), asking("delete"));
    let mut state = 0;
    let Ok(Outcome::Paused(pause)) = pay.run(&mut state) else { panic!("it asks") };

    let refused = delete.resume(&mut state, pause, true);

    let Err(RunError::NoSuchPause { pause, flow, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((flow.as_str(), state), ("delete", 0));
    assert!(pay.resume(&mut state, pause, true).is_ok());
    assert_eq!(state, 1);
}

#[test]
fn a_driver_answers_a_pause_and_goes_on_by_itself() {
    let flow = asking("pay");
    let (mut state, mut cx) = (0, flow.context(&RunOptions::new().id("r1")));

    let Ok(flowstone_core::driver::Visit::Pause(pause)) = flow.visit(flow.start(), &mut state, &mut cx) else {
        panic!("it asks")
    };
    let visit = flow.answer(pause, true, &mut state, &mut cx);

    assert!(matches!(visit, Ok(flowstone_core::driver::Visit::End { .. })), "{visit:?}");
    assert_eq!((state, cx.run_id().as_str()), (1, "r1"));
}

/// A label that says nothing of itself.
struct Lies;

impl Label for Lies {
    const NAMES: &'static [&'static str] = &["one"];

    fn index(&self) -> Option<usize> {
        Some(7)
    }

    fn action(self) -> Action {
        "one".into()
    }
}

struct Liar;

impl Node<()> for Liar {
    type Prep = ();
    type Exec = ();
    type Action = Lies;

    fn prep(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn exec(&self, (): &(), _: &Context) -> Result<()> {
        Ok(())
    }

    fn post(&self, (): &mut (), (): (), (): ()) -> Result<Lies> {
        Ok(Lies)
    }
}

#[test]
fn a_label_outside_its_own_names_is_an_error_of_its_node() {
    let mut flow = Flow::builder("lies");
    let node = flow.add("liar", Liar);
    flow.start(node);

    let error = flow.build().expect("it is right").run(&mut ()).expect_err("there is no such label");

    assert!(error.report().contains("`Label::index` gave no position"), "{}", error.report());
}
