//! `#[node]` and `#[derive(Action)]`: every form that is accepted, run in a flow, and called without one.

#![allow(clippy::precedence, reason = "`a - label >> b` is how edges are written")]

use std::sync::atomic::{AtomicU32, Ordering};

use flowstone::prelude::*;
use flowstone::{BatchNode, Choice, HasDefault, OnError};

#[derive(Debug, Default, PartialEq)]
struct Trip {
    city: String,
    log: Vec<String>,
    total: u32,
}

impl Trip {
    fn to(city: &str) -> Self {
        Self { city: city.to_owned(), ..Self::default() }
    }
}

/// Runs one node in a sync flow.
macro_rules! run {
    ($node:expr, $state:expr) => {{
        let mut flow = Flow::builder("one");
        let node = flow.add("node", $node);
        flow.start(node);
        let outcome = flow.build().unwrap().run(&mut $state);
        outcome.map(|outcome| outcome.action().unwrap().clone())
    }};
}

/// Runs one node in an async flow.
macro_rules! run_async {
    ($node:expr, $state:expr) => {{
        let mut flow = AsyncFlow::builder("one");
        let node = flow.add("node", $node);
        flow.start(node);
        let outcome = flow.build().unwrap().run_async(&mut $state).await;
        outcome.map(|outcome| outcome.action().unwrap().clone())
    }};
}

#[derive(Action, Clone, Copy, Debug, PartialEq)]
enum Found {
    Yes,
    NotYet,
    #[action(name = "never again")]
    No,
}

struct Full {
    suffix: &'static str,
}

#[node]
impl Full {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }

    fn exec(&self, city: &str, cx: &Context) -> Result<String> {
        if city.is_empty() {
            return Err(NodeError::new("no city"));
        }
        Ok(format!("{city}{} {}", self.suffix, cx.attempt()))
    }

    fn exec_fallback(&self, city: &str, error: NodeError, cx: &Context) -> Result<String> {
        Ok(format!("{city}{error} after {}", cx.attempt()))
    }

    fn post(&self, trip: &mut Trip, city: String, text: String) -> Result<Found> {
        trip.log.push(text);
        Ok(if city.is_empty() { Self::nothing() } else { Found::Yes })
    }

    fn nothing() -> Found {
        Found::NotYet
    }
}

#[test]
fn a_node_with_all_phases_runs_them_in_order() {
    let mut trip = Trip::to("Oslo");

    let action = run!(Full { suffix: "!" }, trip).unwrap();

    assert_eq!(action, "yes");
    assert_eq!(trip.log, ["Oslo! 0"]);
}

#[test]
fn retries_go_through_the_written_code() {
    let mut trip = Trip::default();

    let action = run!(Full { suffix: "" }.retry(Retry::attempts(3)), trip).unwrap();

    assert_eq!(action, "not_yet");
    assert_eq!(trip.log, ["no city after 2"]);
}

#[tokio::test]
async fn a_sync_node_runs_in_an_async_flow() {
    let mut trip = Trip::to("Oslo");

    run_async!(Full { suffix: "?" }, trip).unwrap();

    assert_eq!(trip.log, ["Oslo? 0"]);
}

#[test]
fn the_methods_stay_callable_without_the_engine() {
    let node = Full { suffix: "." };
    let mut trip = Trip::to("Rome");

    let prep: String = node.prep(&trip);
    let exec: String = node.exec(&prep, &Context::detached().with_attempt(4)).unwrap();
    let found = node.post(&mut trip, prep, exec).unwrap();

    assert_eq!(found, Found::Yes);
    assert_eq!(trip.log, ["Rome. 4"]);
}

struct Fetch;

#[node]
impl Fetch {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }

    async fn exec(&self, city: &str, cx: &Context) -> Result<u32> {
        tokio::task::yield_now().await;
        if cx.attempt() == 0 { Err(NodeError::new("busy")) } else { Ok(city.parse()?) }
    }

    async fn exec_fallback(&self, error: NodeError) -> u32 {
        tokio::task::yield_now().await;
        u32::from(error.to_string() == "busy")
    }

    fn post(&self, trip: &mut Trip, _city: String, number: u32) {
        trip.total += number;
    }
}

#[tokio::test]
async fn one_async_phase_makes_an_async_node() {
    let mut trip = Trip::to("7");

    let action = run_async!(Fetch.retry(Retry::attempts(2)), trip).unwrap();

    assert_eq!(action, "default");
    assert_eq!(trip.total, 7);
}

#[tokio::test]
async fn an_async_fallback_stands_in_for_exec() {
    let mut trip = Trip::to("seven");

    run_async!(Fetch, trip).unwrap();

    assert_eq!(trip.total, 1);
}

struct AllAsync;

#[node]
impl AllAsync {
    async fn prep(&self, trip: &Trip) -> Result<String, std::num::ParseIntError> {
        tokio::task::yield_now().await;
        trip.city.parse::<u32>().map(|number| number.to_string())
    }

    async fn exec(&self, cx: &Context) -> u32 {
        tokio::task::yield_now().await;
        cx.attempt() + 1
    }

    async fn post(&self, trip: &mut Trip, number: String, attempts: u32) -> std::io::Result<Action> {
        tokio::task::yield_now().await;
        trip.total = attempts;
        trip.log.push(number);
        Ok("done".into())
    }
}

#[tokio::test]
async fn every_phase_may_await_and_fail_with_an_error_of_its_own() {
    let mut trip = Trip::to("12");

    let action = run_async!(AllAsync, trip).unwrap();
    let error = run_async!(AllAsync, Trip::to("x")).unwrap_err();

    assert_eq!(action, "done");
    assert_eq!((trip.total, trip.log), (1, vec!["12".to_owned()]));
    assert!(error.to_string().contains("failed in prep"), "{error}");
}

/// Nodes that have some of the phases, by the letters of those that they have.
mod parts {
    use super::{Context, Result, Trip, node};

    pub(crate) struct P;
    #[node]
    impl P {
        fn prep(&self, trip: &Trip) -> Result<()> {
            if trip.city.is_empty() { Err("no city".into()) } else { Ok(()) }
        }
    }

    pub(crate) struct E(pub(crate) std::sync::Arc<super::AtomicU32>);
    #[node]
    impl E {
        fn exec(&self) {
            self.0.fetch_add(1, super::Ordering::Relaxed);
        }
    }

    pub(crate) struct O;
    #[node]
    impl O {
        fn post(&self, trip: &mut Trip) {
            trip.log.push("O".to_owned());
        }
    }

    pub(crate) struct PE;
    #[node]
    impl PE {
        fn prep(&self, trip: &Trip) -> u32 {
            trip.total
        }
        fn exec(&self, total: &u32) -> Result<()> {
            if *total > 0 { Err("too much".into()) } else { Ok(()) }
        }
    }

    pub(crate) struct PO;
    #[node]
    impl PO {
        fn prep(&self, trip: &Trip) -> Vec<u8> {
            trip.city.as_bytes().to_vec()
        }
        fn post(&self, trip: &mut Trip, bytes: Vec<u8>) {
            trip.log.push(format!("PO {}", bytes.len()));
        }
    }

    pub(crate) struct EO;
    #[node]
    impl EO {
        fn exec(&self, cx: &Context) -> String {
            format!("EO {}", cx.attempt())
        }
        fn post(&self, trip: &mut Trip, text: String) {
            trip.log.push(text);
        }
    }

    pub(crate) struct Units;
    #[node]
    impl Units {
        fn exec(&self, _: &(), _: &Context) -> &'static str {
            "units"
        }
        fn post(&self, trip: &mut Trip, _: (), text: &'static str) {
            trip.log.push(text.to_owned());
        }
    }

    pub(crate) struct Slices;
    #[node]
    impl Slices {
        fn prep(&self, trip: &Trip) -> Vec<String> {
            trip.log.clone()
        }
        fn exec(&self, log: &[String]) -> usize {
            log.len()
        }
        fn post(&self, trip: &mut Trip, _: Vec<String>, count: usize) {
            trip.log.push(format!("{count} before"));
        }
    }
}

#[test]
fn missing_phases_give_unit() {
    let counter = std::sync::Arc::new(AtomicU32::new(0));
    let mut flow = Flow::<Trip>::builder("parts");
    let p = flow.add("p", parts::P);
    let e = flow.add("e", parts::E(counter.clone()));
    let o = flow.add("o", parts::O);
    let pe = flow.add("pe", parts::PE);
    let po = flow.add("po", parts::PO);
    let eo = flow.add("eo", parts::EO);
    let units = flow.add("units", parts::Units);
    let slices = flow.add("slices", parts::Slices);
    flow.start(p);
    flow.route(p >> e >> o >> pe >> po >> eo >> units >> slices);

    let mut trip = Trip::to("Oslo");
    flow.build().unwrap().run(&mut trip).unwrap();

    assert_eq!(trip.log, ["O", "PO 4", "EO 0", "units", "4 before"]);
    assert_eq!(counter.load(Ordering::Relaxed), 1);
}

#[test]
fn an_error_of_the_only_phase_ends_the_run() {
    let prep = run!(parts::P, Trip::default()).unwrap_err();
    let exec = run!(parts::PE, Trip { total: 1, ..Trip::default() }).unwrap_err();

    assert!(prep.to_string().contains("failed in prep"), "{prep}");
    assert!(exec.to_string().contains("failed in exec"), "{exec}");
}

#[test]
fn a_node_without_a_state_goes_with_every_state() {
    let counter = std::sync::Arc::new(AtomicU32::new(0));

    run!(parts::E(counter.clone()), Trip::default()).unwrap();
    run!(parts::E(counter.clone()), 7_u8).unwrap();

    assert_eq!(counter.load(Ordering::Relaxed), 2);
}

trait Model: Send + Sync + 'static {
    type Reply: ToString + Send + 'static;
    fn ask(&self, prompt: &str) -> impl Future<Output = Result<Self::Reply>> + Send;
}

struct Echo;

impl Model for Echo {
    type Reply = String;
    async fn ask(&self, prompt: &str) -> Result<String> {
        Ok(prompt.to_uppercase())
    }
}

struct Chat<M, const N: usize> {
    model: M,
}

#[node]
impl<M, const N: usize> Chat<M, N>
where
    M: Model,
{
    fn prep(&self, trip: &Trip) -> String {
        trip.city.repeat(N)
    }

    async fn exec(&self, prompt: &str) -> Result<M::Reply> {
        self.model.ask(prompt).await
    }

    fn post(&self, trip: &mut Trip, _prompt: String, reply: M::Reply) {
        trip.log.push(reply.to_string());
    }
}

#[tokio::test]
async fn the_generics_of_the_block_are_carried_over() {
    let mut trip = Trip::to("oslo");

    run_async!(Chat::<_, 2> { model: Echo }, trip).unwrap();

    assert_eq!(trip.log, ["OSLOOSLO"]);
}

struct Put<S> {
    value: S,
}

#[node]
impl<S: Clone + Send + Sync + 'static> Put<S> {
    fn post(&self, state: &mut S) {
        state.clone_from(&self.value);
    }
}

#[test]
fn the_state_may_be_a_parameter_of_the_node() {
    let mut number = 1_u32;
    let mut text = "a".to_owned();

    run!(Put { value: 5_u32 }, number).unwrap();
    run!(Put { value: "b".to_owned() }, text).unwrap();

    assert_eq!((number, text.as_str()), (5, "b"));
}

struct Stopping;

#[node(batch)]
impl Stopping {
    fn prep(&self, texts: &Vec<String>) -> Vec<String> {
        texts.clone()
    }

    fn exec(&self, text: &str, cx: &Context) -> Result<usize> {
        Ok(text.parse::<usize>()? + cx.item().unwrap_or_default())
    }

    fn post(&self, texts: &mut Vec<String>, items: Vec<String>, numbers: Vec<usize>) -> Found {
        *texts = items.iter().zip(numbers).map(|(item, number)| format!("{item}={number}")).collect();
        Found::No
    }
}

struct Collecting;

#[node(batch)]
impl Collecting {
    fn prep(&self, texts: &Vec<String>) -> Result<Vec<String>> {
        if texts.is_empty() { Err(NodeError::terminal("empty")) } else { Ok(texts.clone()) }
    }

    async fn exec(&self, text: &str) -> Result<usize> {
        tokio::task::yield_now().await;
        Ok(text.parse()?)
    }

    fn exec_fallback(&self, text: &str, error: NodeError, cx: &Context) -> Result<usize> {
        if text.is_empty() { Ok(cx.attempt() as usize) } else { Err(error) }
    }

    fn post(&self, texts: &mut Vec<String>, numbers: Vec<Result<usize>>) {
        *texts = numbers.into_iter().map(|n| n.map_or_else(|e| e.to_string(), |n| n.to_string())).collect();
    }
}

/// A batch that is run for its effects only.
struct Silent;

#[node(batch)]
impl Silent {
    async fn prep(&self, texts: &Vec<String>) -> Vec<String> {
        texts.clone()
    }

    fn exec(&self, text: &String) -> Result<usize, std::num::ParseIntError> {
        text.parse()
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

#[test]
fn a_batch_whose_post_takes_outputs_stops_at_a_failed_item() {
    let mut good = texts(["10", "20"]);
    let mut bad = texts(["10", "x"]);

    let action = run!(Stopping, good).unwrap();
    let error = run!(Stopping, bad).unwrap_err();

    assert_eq!(action, "never again");
    assert_eq!(good, ["10=10", "20=21"]);
    assert_eq!(bad, ["10", "x"]);
    assert!(matches!(error, RunError::Node { item: Some(1), .. }), "{error}");
}

#[tokio::test]
async fn a_batch_whose_post_takes_results_collects_them() {
    let mut state = texts(["1", "x", "", "4"]);

    run_async!(Collecting.parallel(2).retry(Retry::attempts(2)), state).unwrap();
    let error = run_async!(Collecting.parallel(2).spawned(), Vec::new()).unwrap_err();

    assert_eq!(state, ["1", "invalid digit found in string", "1", "4"]);
    assert!(error.to_string().contains("failed in prep"), "{error}");
}

#[tokio::test]
async fn a_batch_needs_no_post() {
    let action = run_async!(Silent, texts(["1", "2"])).unwrap();
    let error = run_async!(Silent, texts(["1", "x"])).unwrap_err();

    assert_eq!(action, "default");
    assert!(error.to_string().contains("item 1"), "{error}");
}

#[test]
fn the_type_that_post_takes_is_what_a_failed_item_does() {
    fn on_error<S, N: BatchNode<S>>(_: &N) -> OnError {
        <N::Outcome as flowstone::ItemOutcome<N::Output>>::ON_ERROR
    }

    assert_eq!(on_error(&Stopping), OnError::Stop);
}

#[derive(Action)]
enum Step {
    Default,
    HTTPError,
    r#Type,
}

#[test]
fn labels_are_named_by_their_variants() {
    assert_eq!(Found::NAMES, ["yes", "not_yet", "never again"]);
    assert_eq!(Step::NAMES, ["default", "http_error", "type"]);
    assert_eq!([Step::Default.index(), Step::HTTPError.index(), Step::Type.index()], [Some(0), Some(1), Some(2)]);
    assert_eq!(Found::No.action(), "never again");
}

#[test]
fn an_enum_with_a_label_default_has_the_default_action() {
    fn has_default<A: HasDefault>(label: A) -> Action {
        label.action()
    }
    let mut flow = Flow::builder("default");
    let first = flow.add("first", |_: &mut u32| Step::Default);
    let last = flow.add("last", |n: &mut u32| *n = 1);
    flow.start(first);
    flow.route(first >> last);
    flow.route(first - Step::HTTPError >> last);
    flow.route(first - Step::Type >> END);

    let mut n = 0;
    flow.build().unwrap().run(&mut n).unwrap();

    assert_eq!(n, 1);
    assert_eq!(has_default(Step::Default), Action::DEFAULT);
}

/// A node from a macro by example: what it is given keeps its places, and the names still fit.
macro_rules! adder {
    ($name:ident, $state:ty, $by:expr) => {
        struct $name;

        #[node]
        impl $name {
            fn prep(&self, state: &$state) -> $state {
                *state
            }
            fn exec(&self, state: &$state) -> $state {
                state + $by
            }
            fn post(&self, state: &mut $state, _: $state, sum: $state) {
                *state = sum;
            }
        }
    };
}

adder!(AddTwo, u32, 2);

#[test]
fn a_node_may_come_out_of_another_macro() {
    let mut n = 40;

    run!(AddTwo, n).unwrap();

    assert_eq!(n, 42);
}

#[cfg(any())]
struct Never;

#[node]
#[cfg(any())]
impl Never {
    fn post(&self, _: &mut Trip) {}
}

#[test]
fn a_typed_weather_loop_runs_to_its_end() {
    struct Look;

    #[node]
    impl Look {
        fn prep(&self, trip: &Trip) -> u32 {
            trip.total
        }
        fn exec(&self, total: &u32) -> u32 {
            total + 1
        }
        fn post(&self, trip: &mut Trip, _before: u32, after: u32) -> Found {
            trip.total = after;
            if after < 3 { Found::NotYet } else { Found::Yes }
        }
    }

    let mut flow = Flow::builder("loop");
    let look = flow.add("look", Look);
    let tell = flow.add("tell", parts::O);
    flow.start(look);
    flow.route(look - Found::NotYet >> look);
    flow.route(look - Found::Yes >> tell);
    flow.route(look - Found::No >> END);

    let mut trip = Trip::default();
    flow.build().unwrap().run(&mut trip).unwrap();

    assert_eq!((trip.total, trip.log), (3, vec!["O".to_owned()]));
}

#[derive(Action, Debug, PartialEq)]
enum Triage {
    /// The customer wants money back,
    /// also for a part.
    ///
    ///   Not for a complaint.
    Refund,
    #[action(name = "other")]
    #[doc(hidden)]
    Else,
    /** In a block. */
    Default,
}

#[test]
fn a_derived_action_can_be_chosen_by_number_with_its_description() {
    let about = ["The customer wants money back, also for a part. Not for a complaint.", "", "In a block."];

    assert_eq!(Triage::ABOUT, about);
    assert_eq!(Triage::NAMES, ["refund", "other", "default"]);
    let chosen = (0..4).map(Triage::choose).collect::<Vec<_>>();
    assert_eq!(chosen, [Some(Triage::Refund), Some(Triage::Else), Some(Triage::Default), None]);
    assert!((0..3).all(|index| Triage::choose(index).unwrap().index() == Some(index)));
}

mod by_its_type {
    use super::*;

    /// A parameter of the alias is the error's, and not the value's.
    mod odd {
        pub(super) type Result<E> = std::result::Result<u32, E>;
    }

    type Text = String;

    struct Context(u32);

    struct Parse(AtomicU32);

    #[node]
    impl Parse {
        fn prep(&self, text: &Text) -> Text {
            text.clone()
        }
        fn exec(&self, text: &str) -> odd::Result<std::num::ParseIntError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            text.parse()
        }
        fn post(&self, text: &mut String, _: String, number: u32) {
            *text = (number + 1).to_string();
        }
    }

    #[test]
    fn a_result_is_what_its_alias_stands_for() {
        let mut flow = Flow::builder("parse");
        let parse = flow.add("parse", Parse(AtomicU32::new(0)));
        flow.start(parse);
        let flow = flow.build().unwrap();

        let (mut number, mut word) = ("41".to_owned(), "x".to_owned());
        let (ended, failed) = (flow.run(&mut number), flow.run(&mut word));

        assert!(ended.is_ok() && failed.is_err());
        assert_eq!((number.as_str(), word.as_str()), ("42", "x"));
    }

    struct Own;

    #[node]
    impl Own {
        fn prep(&self, n: &u32) -> Context {
            Context(*n)
        }
        fn exec(&self, context: &Context) -> u32 {
            context.0 + 1
        }
        fn post(&self, n: &mut u32, _: Context, more: u32) {
            *n = more;
        }
    }

    #[test]
    fn a_type_of_the_users_may_be_called_context() {
        let mut flow = Flow::builder("own");
        let own = flow.add("own", Own);
        flow.start(own);

        let mut n = 1;
        flow.build().unwrap().run(&mut n).unwrap();

        assert_eq!(n, 2);
    }
}
