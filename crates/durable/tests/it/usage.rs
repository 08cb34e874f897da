//! The usage of paid services is kept with each visit, also of one that failed, and never counted twice.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use flowstone_core::{Action, AsyncFlow, Context, END, NodeExt, Result, Retry, Usage, Usd};
use flowstone_durable::{Durability, Prune, ReadError, Reader, Runs, Status, StoreOptions, WriteMoment, WritePoint};

use crate::common::{Count, Folder, Gate, Numbers, failure, items, numbers, rows, soon, until, work};

/// The usage of one call.
pub(crate) const CALL: Usage = Usage { calls: 1, input_tokens: 100, output_tokens: 10, cost: Usd::nanos(2_000_000) };

/// The usage of so many calls.
pub(crate) fn calls(count: u64) -> Usage {
    (0..count).map(|_| CALL).sum()
}

/// Makes a call, as a node with a model does.
pub(crate) fn call(cx: &Context) -> Result<()> {
    cx.afford()?;
    cx.spend(CALL);
    Ok(())
}

/// Counts up to a number, a call each; `more` is what else an attempt does.
pub(crate) fn spending<F>(more: impl Fn(Context) -> F + Clone + Send + Sync + 'static) -> AsyncFlow<Count>
where
    F: Future<Output = Result<()>> + Send,
{
    let mut flow = AsyncFlow::builder("spending");
    let begin = flow.add("begin", |_: &mut Count| ());
    let visit = work(
        move |cx: Context| {
            let more = more.clone();
            async move {
                call(&cx)?;
                more(cx).await?;
                Ok(1)
            }
        },
        |count: &mut Count, one| {
            count.n += one as u32;
            Action::from(if count.n < count.of { "again" } else { "done" })
        },
    );
    let visit = flow.add("ask", visit.retry(Retry::attempts(2)));
    flow.start(begin);
    flow.route(begin >> visit);
    flow.route(visit - "again" >> visit);
    flow.route(visit - "done" >> END);
    flow.build().unwrap()
}

/// The usage of each step of a run, in calls.
fn by_step(path: &Path, run: &str) -> Vec<u64> {
    let steps = Reader::open(path).unwrap().steps(run, 0, 100).unwrap();
    steps.iter().map(|step| step.usage.calls).collect()
}

/// The usage of a run, children included, in calls.
fn total(path: &Path, run: &str) -> u64 {
    Reader::open(path).unwrap().usage(run).unwrap().calls
}

/// Returns a flag, and a closure that fails while it is set.
fn broken() -> (Arc<AtomicBool>, impl Fn(&Context) -> Result<()> + Clone + Send + Sync) {
    let broken = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&broken);
    (broken, move |_: &Context| if flag.load(Relaxed) { Err(failure("down")) } else { Ok(()) })
}

#[tokio::test]
async fn each_step_has_what_all_its_attempts_used_and_the_run_has_the_sum() {
    let folder = Folder::new();
    let fails_once =
        |cx: Context| async move { if cx.visit() == 2 && cx.attempt() == 0 { Err(failure("busy")) } else { Ok(()) } };
    let runs = Runs::open(folder.store(), spending(fails_once)).await.unwrap();

    let run = runs.start("r", Count::to(3)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    assert_eq!(by_step(&folder.store(), "r"), [0, 0, 1, 2, 1]);
    assert_eq!(run.steps(3, 1).await.unwrap()[0].usage, calls(2));
    assert_eq!(run.usage().await.unwrap(), calls(4));
    assert!(rows(&folder.store()).contains(&("usage", 3)), "a visit that used nothing has no row");
}

#[tokio::test]
async fn a_run_that_uses_nothing_has_no_rows() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), crate::common::counting(&Default::default())).await.unwrap();

    let run = runs.start("r", Count::to(3)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    assert_eq!(run.usage().await.unwrap(), Usage::default());
    assert!(rows(&folder.store()).iter().all(|(table, _)| *table != "usage"));
    assert!(matches!(runs.store().reader().unwrap().usage("nope"), Err(ReadError::UnknownRun { .. })));
}

#[tokio::test]
async fn what_a_failed_visit_spent_is_spent_and_added_to_when_it_is_retried() {
    let folder = Folder::new();
    let (flag, check) = broken();
    let flow = spending(move |cx| {
        let check = check.clone();
        async move { check(&cx) }
    });
    let runs = Runs::open(folder.store(), flow).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    run.finished().await.unwrap().ended().unwrap_err();
    let failed = (total(&folder.store(), "r"), by_step(&folder.store(), "r"));

    flag.store(false, Relaxed);
    run.retry_failed().await.unwrap();
    run.finished().await.unwrap().ended().unwrap();

    assert_eq!(failed, (2, vec![0, 0]));
    assert_eq!((total(&folder.store(), "r"), by_step(&folder.store(), "r")), (4, vec![0, 0, 3, 1]));
}

#[tokio::test]
async fn what_a_cancelled_visit_spent_is_spent() {
    let (folder, gate, came) = (Folder::new(), Gate::closed(), Arc::default());
    let runs = Runs::open(folder.store(), held(&gate, &came)).await.unwrap();
    let run = runs.start("r", Count::to(1)).await.unwrap();
    until("the call", async || came.load(Relaxed) == 1).await;

    run.cancel().await.unwrap();

    assert_eq!(run.info().await.unwrap().status, Status::Cancelled);
    assert_eq!((total(&folder.store(), "r"), by_step(&folder.store(), "r")), (1, vec![0, 0]));
}

/// [`spending`] that waits at a gate after each call, and counts who has come there.
fn held(gate: &Gate, came: &Arc<AtomicU64>) -> AsyncFlow<Count> {
    let (gate, came) = (gate.clone(), Arc::clone(came));
    spending(move |_| {
        let (gate, came) = (gate.clone(), Arc::clone(&came));
        async move {
            came.fetch_add(1, Relaxed);
            gate.pass().await;
            Ok(())
        }
    })
}

#[tokio::test]
async fn what_was_under_way_at_a_crash_is_lost_and_at_an_orderly_end_is_kept() {
    let (folder, crashed, gate, came) = (Folder::new(), Folder::new(), Gate::closed(), Arc::default());
    let runs = Runs::open(folder.store(), held(&gate, &came)).await.unwrap();
    runs.start("r", Count::to(2)).await.unwrap();
    gate.open_for(1);
    until("the second call", async || came.load(Relaxed) == 2).await;

    // A crash leaves the file as it is now.
    for name in ["runs.db", "runs.db-wal"] {
        std::fs::copy(folder.file(name), crashed.file(name)).unwrap();
    }
    runs.store().close().await;

    assert_eq!(total(&folder.store(), "r"), 2);
    gate.open();
    for (folder, wanted) in [(&crashed, 2), (&folder, 3)] {
        let runs = Runs::open(folder.store(), held(&gate, &came)).await.unwrap();
        runs.resume_all().await.unwrap();
        soon("the end", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();
        assert_eq!(total(&folder.store(), "r"), wanted);
        assert_eq!(by_step(&folder.store(), "r"), [0, 0, 1, wanted - 1]);
    }
}

/// A batch that makes a call for each item, up to four at once, and stops at item `stops_at`.
fn batch(gate: &Gate, stops_at: usize) -> AsyncFlow<Numbers> {
    let gate = gate.clone();
    let mut flow = AsyncFlow::builder("batch");
    let each = items(move |cx: Context| {
        let gate = gate.clone();
        async move {
            if cx.item().unwrap() >= stops_at {
                gate.pass().await;
            }
            call(&cx)?;
            Ok(1)
        }
    });
    let each = flow.add("each", each.parallel(4).journaled());
    flow.start(each);
    flow.build().unwrap()
}

#[tokio::test]
async fn what_an_item_used_is_kept_with_it() {
    let (folder, crashed, gate) = (Folder::new(), Folder::new(), Gate::closed());
    let runs = Runs::open(folder.store(), batch(&gate, 6)).await.unwrap();
    runs.start("r", numbers(10)).await.unwrap();
    let reader = runs.store().reader().unwrap();
    until("six items", async || reader.items_done("r").unwrap() == 6).await;
    assert_eq!(reader.usage("r").unwrap(), calls(6));
    for name in ["runs.db", "runs.db-wal"] {
        std::fs::copy(folder.file(name), crashed.file(name)).unwrap();
    }
    runs.store().close().await;

    gate.open();
    let runs = Runs::open(crashed.store(), batch(&gate, 6)).await.unwrap();
    runs.resume_all().await.unwrap();
    soon("the batch", runs.get("r").await.unwrap().finished()).await.unwrap().ended().unwrap();

    assert_eq!(total(&crashed.store(), "r"), 10);
    assert_eq!(by_step(&crashed.store(), "r"), [0, 10]);
}

#[tokio::test]
async fn what_an_attempt_used_is_kept_while_the_next_is_waited_for() {
    let folder = Folder::new();
    let visit = work(
        |cx: Context| async move {
            call(&cx)?;
            Err(failure("busy").with_retry_after(Duration::from_secs(3600)))
        },
        |_: &mut Count, _| Action::from("done"),
    );
    let mut flow = AsyncFlow::builder("patient");
    let visit = flow.add("ask", visit.retry(Retry::attempts(2)));
    flow.start(visit);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();

    runs.start("r", Count::default()).await.unwrap();

    until("it is written", async || total(&folder.store(), "r") == 1).await;
}

#[tokio::test]
async fn a_visit_ahead_of_the_disk_has_what_it_used_itself() {
    let folder = Folder::new();
    let options = StoreOptions::new().durability(Durability::Behind(4));
    let store = options.open(folder.store()).await.unwrap();
    let runs = store.runs(spending(|_| async { Ok(()) })).await.unwrap();

    runs.start("r", Count::to(50)).await.unwrap().finished().await.unwrap().ended().unwrap();

    assert_eq!(by_step(&folder.store(), "r")[2..], [1; 50]);
}

#[tokio::test]
async fn numbers_that_are_too_large_stop_at_the_largest() {
    let folder = Folder::new();
    let all = Usage { calls: u64::MAX, input_tokens: u64::MAX, output_tokens: 1, cost: Usd::nanos(u64::MAX) };
    let flow = spending(move |cx| async move {
        cx.spend(all);
        if cx.attempt() == 0 { Err(failure("busy")) } else { Ok(()) }
    });
    let run = Runs::open(folder.store(), flow).await.unwrap().start("r", Count::to(2)).await.unwrap();

    run.finished().await.unwrap().ended().unwrap();

    let most = i64::MAX as u64;
    let used = run.usage().await.unwrap();
    assert_eq!((used.input_tokens, used.output_tokens), (2 * most, 44));
    assert_eq!(run.steps(2, 1).await.unwrap()[0].usage.cost, Usd::nanos(most));
}

#[tokio::test]
async fn deleting_and_pruning_take_it_and_a_fork_begins_at_nothing() {
    let folder = Folder::new();
    let runs = Runs::open(folder.store(), spending(|_| async { Ok(()) })).await.unwrap();
    runs.start("r", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();

    let fork = runs.fork("r", 3, "fork", |_| {}).await.unwrap();
    fork.finished().await.unwrap().ended().unwrap();

    assert_eq!((total(&folder.store(), "r"), total(&folder.store(), "fork")), (3, 1));
    runs.delete("r").await.unwrap();
    assert_eq!(runs.prune(&Prune::new()).await.unwrap().runs, 1);
    assert_eq!(rows(&folder.store()), []);
}

#[tokio::test]
async fn stopped_after_any_commit_a_run_has_what_was_kept_and_adds_what_it_spends_then() {
    let (folder, stops) = (Folder::new(), Arc::new(Folder::new()));
    let (made, stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counting = |made: &Arc<AtomicU64>| {
        let made = Arc::clone(made);
        spending(move |_| {
            made.fetch_add(1, Relaxed);
            async { Ok(()) }
        })
    };
    // The store as a crash would leave it, and the number of calls before that.
    let copy = {
        let (from, stops) = (folder.store(), Arc::clone(&stops));
        let (made, stopped) = (Arc::clone(&made), Arc::clone(&stopped));
        move |point: WritePoint| {
            if point.when == WriteMoment::Committed {
                let to = stops.file(&format!("{}.{}", stopped.fetch_add(1, Relaxed), made.load(Relaxed)));
                std::fs::copy(&from, &to).unwrap();
                std::fs::copy(from.with_extension("db-wal"), format!("{}-wal", to.display())).unwrap();
            }
        }
    };
    let store = StoreOptions::new().on_write(copy).open(folder.store()).await.unwrap();
    let runs = store.runs(counting(&made)).await.unwrap();
    runs.start("r", Count::to(4)).await.unwrap().finished().await.unwrap().ended().unwrap();
    store.close().await;

    let copies = stops.names().into_iter().filter(|name| !name.contains('-')).collect::<Vec<_>>();
    assert_eq!(copies.len() as u64, stopped.load(Relaxed));
    for name in copies {
        let (path, before) = (stops.file(&name), name.split('.').nth(1).unwrap().parse::<u64>().unwrap());
        let after = Arc::default();
        let runs = Runs::open(&path, counting(&after)).await.unwrap();
        runs.start("r", Count::to(4)).await.unwrap().finished().await.unwrap().ended().unwrap();

        let total = total(&path, "r");
        assert!((4..=before + after.load(Relaxed)).contains(&total), "{name}: {total}");
        assert_eq!(by_step(&path, "r"), [0, 0, 1, 1, 1, 1], "{name}");
        runs.store().close().await;
    }
}
