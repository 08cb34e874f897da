//! Limits make calls wait, in order, and never fail; time is paused.

use std::{sync::Arc, time::Duration};

use flowstone_core::{AsyncFlow, AsyncNode, BoxFuture, Budget, Context, OverBudget, Result, RunError, RunOptions};
use flowstone_llm::{ChatModel, Failure, Limits, Message, Model, ModelError, ModelId, Reply, Request, ScriptedModel};
use futures_util::future::join_all;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

const SECOND: Duration = Duration::from_secs(1);

fn ask(text: &str) -> Request {
    Request::new([Message::user(text)])
}

/// A model that takes a second for each call, counts those under way, and says what they took.
struct Slow {
    id: ModelId,
    room: Arc<Semaphore>,
    tokens: u64,
}

impl ChatModel for Slow {
    fn id(&self) -> &ModelId {
        &self.id
    }

    fn chat<'a>(&'a self, _: &'a Request, _: &'a Context) -> BoxFuture<'a, Result<Reply, ModelError>> {
        Box::pin(async move {
            let _room = self.room.try_acquire().expect("no more calls at once than the limit");
            sleep(SECOND).await;
            Ok(Reply::of_text("yes").with_tokens(self.tokens, 0))
        })
    }
}

fn slow(at_once: usize, tokens: u64) -> Model {
    Model::new(Slow { id: ModelId::new("test", "slow"), room: Arc::new(Semaphore::new(at_once)), tokens })
}

/// Makes so many calls at once, and returns when each was done, in seconds.
async fn done(model: &Model, calls: usize, text: &str) -> Vec<u64> {
    let start = Instant::now();
    let request = ask(text);
    let call = || async {
        let clone = model.clone();
        clone.chat(&request, &Context::detached()).await.unwrap();
        start.elapsed().as_secs_f64().round() as u64
    };
    join_all((0..calls).map(|_| call())).await
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_made_at_once_than_the_limit() {
    let model = slow(2, 1).limits(Limits::new().concurrency(2));

    assert_eq!(done(&model, 5, "?").await, [1, 1, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_of_a_minute_wait_their_turn() {
    let model = slow(100, 1).limits(Limits::new().requests_per_minute(2));

    assert_eq!(done(&model, 5, "?").await, [1, 1, 31, 61, 91]);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_guessed_before_and_made_up_for_afterwards() {
    // 60 tokens a minute are one a second; each call is guessed at 10 tokens, and takes 40.
    let model = slow(100, 40).limits(Limits::new().tokens_per_minute(60));
    let text = "x".repeat(40);

    // The minute's tokens are 60: less 10, they pay the 30 that came on top, and 10 again.
    assert_eq!(done(&model, 1, &text).await, [1]);
    assert_eq!(done(&model, 1, &text).await, [1]);
    // By now 100 tokens are owed or paid, of 62.
    let third = done(&model, 1, &text).await[0];
    assert!((28..=31).contains(&third), "{third}");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_more_tokens_than_a_minute_has_takes_all_of_a_minutes() {
    let model = slow(100, 0).limits(Limits::new().tokens_per_minute(60));

    assert_eq!(done(&model, 3, &"x".repeat(100_000)).await, [1, 61, 121]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_is_one() {
    let model = slow(1, 0).limits(Limits::new().concurrency(0).requests_per_minute(0).tokens_per_minute(0));

    assert_eq!(done(&model, 2, "?").await, [1, 61]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_up_its_turn() {
    let model = slow(1, 0).limits(Limits::new().concurrency(1).requests_per_minute(60));

    let (late, cx) = (ask("late"), Context::detached());
    let (first, second, dropped) = tokio::join!(
        done(&model, 1, "?"),
        done(&model, 1, "?"),
        tokio::time::timeout(SECOND / 2, model.chat(&late, &cx))
    );

    assert!(dropped.is_err());
    assert_eq!((first, second), (vec![1], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn all_clones_leave_a_service_alone_that_asks_for_it() {
    for (asked, waited) in [(7, 7), (86_400, 60)] {
        let script = ScriptedModel::by(move |request: &Request| {
            if request.messages[0].text() == "first" {
                let retry_after = Some(Duration::from_secs(asked));
                return Err(Failure::RateLimited { retry_after, said: "slow down".to_owned() });
            }
            Ok(Reply::of_text("yes"))
        });
        let model = Model::new(script);
        let error = model.chat(&ask("first"), &Context::detached()).await.unwrap_err();

        assert_eq!(error.retry_after(), Some(Duration::from_secs(asked)));
        assert_eq!(done(&model, 2, "then").await, [waited, waited]);
        assert_eq!(done(&model, 1, "later").await, [0]);
    }
}

/// A node that makes a call.
struct Call(Model);

impl AsyncNode<u64> for Call {
    type Prep = ();
    type Exec = u64;
    type Action = ();

    async fn prep(&self, _: &u64) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, (): &(), cx: &Context) -> Result<u64> {
        Ok(self.0.chat(&ask("?"), cx).await?.tokens.unwrap_or_default().tokens())
    }

    async fn post(&self, used: &mut u64, (): (), tokens: u64) -> Result<()> {
        *used += tokens;
        Ok(())
    }
}

fn calling(name: &str, model: &Model) -> AsyncFlow<u64> {
    let mut flow = AsyncFlow::builder(name);
    let call = flow.add("call", Call(model.clone()));
    let again = flow.add("again", |_: &mut u64| ());
    flow.start(call);
    flow.route(call >> again >> call);
    flow.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_flows_share_the_limits_of_one_model() {
    let model = slow(1, 1).limits(Limits::new().concurrency(1));
    let (first, second) = (calling("first", &model), calling("second", &model));
    let options = RunOptions::new().max_visits(5);
    let (start, mut used) = (Instant::now(), (0, 0));

    let ended = tokio::join!(first.run_async_with(&mut used.0, &options), second.run_async_with(&mut used.1, &options));

    assert!(ended.0.is_err() && ended.1.is_err()); // of too many visits
    assert_eq!((used, start.elapsed()), ((3, 3), 6 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_used_its_tokens_makes_no_further_call() {
    let flow = calling("loop", &slow(1, 400));
    let options = RunOptions::new().budget(Budget::new().tokens(1_000));
    let mut used = 0;

    let error = flow.run_async_with(&mut used, &options).await.unwrap_err();

    let RunError::Node { source, terminal: true, .. } = &error else { panic!("{error}") };
    assert_eq!(source.downcast_ref(), Some(&OverBudget::Tokens { limit: 1_000, used: 1_200 }));
    assert_eq!(used, 1_200);
}
