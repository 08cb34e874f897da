//! Children of a journaled batch flow: each is a run that the driver keeps, visit by visit.

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{Count, Kept, Log, async_items, named};
use flowstone_core::{
    Action, AsyncFlow, Child, END, Flow, NodeExt, Result, RunError, RunOptions, Sleep, driver::ItemKey,
};
use std::time::Duration;

type Step = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// A flow over a number of two nodes, which tell `step` what they do.
fn grow(step: Step) -> Flow<u32> {
    let step = std::sync::Arc::new(step);
    let (first, second) = (std::sync::Arc::clone(&step), step);
    let mut flow = Flow::builder("grow");
    let double = flow.add("double", move |n: &mut u32| {
        first(&format!("double {n}"))?;
        *n *= 2;
        Result::Ok(())
    });
    let add = flow.add("add", move |n: &mut u32| {
        second(&format!("add {n}"))?;
        *n += 1;
        Result::Ok(Action::from("grown"))
    });
    flow.start(double);
    flow.route(double >> add);
    flow.build().unwrap()
}

fn failing_once(log: &Log, at: &'static str) -> Step {
    let (log, count) = (log.clone(), Count::default());
    Box::new(move |what| {
        log.push(what);
        if what == at && count.up() == 0 { Err("down".into()) } else { Ok(()) }
    })
}

#[tokio::test]
async fn each_child_goes_on_from_its_last_visit() {
    let steps = Log::default();
    let each = grow(failing_once(&steps, "add 10")).batch(Vec::clone, |all: &mut Vec<u32>, ended| *all = ended);
    let flow: AsyncFlow<Vec<u32>> = named("outer", each.journaled());
    let kept = Kept::default();

    let error = kept.drive(&mut flow.execution(vec![1, 5, 3], &RunOptions::new().id("r1"))).await.unwrap_err();
    let first = steps.lines();
    let mut again = flow.execution(vec![1, 5, 3], &RunOptions::new().id("r1"));
    kept.finish(&mut again).await;

    assert_eq!(error.report(), "run `r1`: node `node[1]/add` failed in post: down");
    assert_eq!(first, ["double 1", "add 2", "double 5", "add 10"]);
    assert_eq!(steps.lines()[4..], ["add 10", "double 3", "add 6"]);
    assert_eq!(again.into_state(), [3, 11, 7]);
}

#[tokio::test]
async fn the_id_of_a_child_is_the_key_of_its_item() {
    let each = grow(Box::new(|_| Ok(()))).batch(Vec::clone, |all: &mut Vec<u32>, ended| *all = ended);
    let mut flow = AsyncFlow::builder("school");
    let first = flow.add("first", |_: &mut Vec<u32>| ());
    let classes = flow.add("classes", each.parallel(2).journaled());
    flow.start(first);
    flow.route(first >> classes);
    let kept = Kept::default();

    let mut run = flow.build().unwrap().execution(vec![1, 5], &RunOptions::new().id("r1"));
    kept.finish(&mut run).await;

    let ids = [b"1", b"5"].map(|state| format!("child r1:1:classes[{}]", ItemKey::of_json(state, 0)));
    assert_eq!(kept.log.lines(), ids);
}

#[tokio::test]
async fn children_in_memory_have_no_journal() {
    let inner: AsyncFlow<Vec<u32>> = named("inner", async_items(2, |_, _| async { Ok(1_u32) }).journaled());
    let each = inner.batch(|all: &Vec<Vec<u32>>| all.clone(), |all: &mut Vec<Vec<u32>>, ended| *all = ended);
    let flow = named("outer", each);
    let kept = Kept::default();

    let mut run = flow.execution(vec![vec![], vec![]], &RunOptions::new());
    kept.finish(&mut run).await;

    assert!(kept.log.lines().is_empty());
    assert_eq!(run.into_state(), [[1, 1], [1, 1]]);
}

#[tokio::test]
async fn children_of_children_are_kept_with_their_items() {
    let count = Count::default();
    let inner: AsyncFlow<Vec<u32>> = named(
        "inner",
        async_items(2, move |item, _| {
            let number = count.up();
            async move { if number == 6 { Err("down".into()) } else { Ok(item as u32) } }
        })
        .journaled(),
    );
    let middle = named(
        "middle",
        inner.batch(|_: &Vec<u32>| vec![vec![]; 2], |all: &mut Vec<u32>, ended| *all = ended.concat()).journaled(),
    );
    let outer = named(
        "outer",
        middle.batch(|_: &Vec<u32>| vec![vec![]; 2], |all: &mut Vec<u32>, ended| *all = ended.concat()).journaled(),
    );
    let kept = Kept::default();

    let error = kept.drive(&mut outer.execution(vec![], &RunOptions::new().id("r1"))).await.unwrap_err();
    let before = kept.log.lines().len();
    let mut again = outer.execution(vec![], &RunOptions::new().id("r1"));
    kept.finish(&mut again).await;

    assert_eq!(error.report(), "run `r1`: node `node[1]/node[1]/node`, item 0, failed in exec after 1 attempt: down");
    let [first, second] = [0, 1].map(|before| format!("node[{}]", ItemKey::of_json(b"[]", before)));
    assert_eq!(
        kept.log.lines()[before..],
        [
            format!("child r1:0:{first}"),
            format!("child r1:0:{second}"),
            format!("child r1:0:{second}:0:{first}"),
            format!("child r1:0:{second}:0:{second}"),
            "record 0 0".to_owned(),
            "record 1 1".to_owned(),
        ]
    );
    assert_eq!(again.into_state(), [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[tokio::test]
async fn a_failed_child_is_collected_with_its_state_and_a_failed_journal_is_not() {
    let inner = || {
        let mut flow = AsyncFlow::<Vec<u32>>::builder("inner");
        let list = flow.add("list", async_items(1, |_, _| async { Ok(1_u32) }).journaled());
        let refuse = flow.add("refuse", |all: &mut Vec<u32>| -> Result<()> {
            all.push(9);
            Err("no".into())
        });
        flow.start(list);
        flow.route(list >> refuse);
        flow.build().unwrap()
    };
    let join = |all: &mut Vec<u32>, ended: Vec<Child<Vec<u32>>>| {
        for child in ended {
            assert!(child.result.is_err());
            all.extend(child.state);
        }
    };
    let flow = named("outer", inner().batch_collect(|_: &Vec<u32>| vec![vec![]], join).journaled());

    let mut run = flow.execution(vec![], &RunOptions::new());
    Kept::default().finish(&mut run).await;
    let error = Kept::broken("record").drive(&mut flow.execution(vec![], &RunOptions::new())).await.unwrap_err();

    assert_eq!(run.into_state(), [1, 9]);
    let RunError::Journal { node, item, .. } = error else { panic!("{error:?}") };
    assert_eq!((node.as_str(), item), ("node[0]/list", Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_sleep_in_a_child_in_memory_is_not_parked() {
    let mut nap = AsyncFlow::<u32>::builder("nap");
    let sleep = nap.add("sleep", Sleep::new(Duration::from_hours(1)));
    nap.start(sleep);
    let each = nap.build().unwrap().batch(Vec::clone, |_: &mut Vec<u32>, _| ());
    let mut flow = AsyncFlow::builder("outer");
    let each = flow.add("each", each);
    flow.start(each);
    flow.route(each >> END);
    let began = tokio::time::Instant::now();

    Kept::default().finish(&mut flow.build().unwrap().execution(vec![1, 2], &RunOptions::new())).await;

    assert_eq!(began.elapsed(), Duration::from_hours(2));
}
