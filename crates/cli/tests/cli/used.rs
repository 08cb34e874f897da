//! `runs show` of runs that use paid services.

use flowstone_core::{AsyncFlow, AsyncNode, Context, NodeError, Result, Usage, Usd};
use flowstone_durable::Store;
use serde_json::json;

use crate::common::{Desk, squeezed};

/// Makes two calls; of the number 0 the second fails.
struct Ask;

impl AsyncNode<u32> for Ask {
    type Prep = u32;
    type Exec = ();
    type Action = ();

    async fn prep(&self, state: &u32) -> Result<u32> {
        Ok(*state)
    }

    async fn exec(&self, number: &u32, cx: &Context) -> Result<()> {
        cx.spend(Usage { calls: 1, input_tokens: 1200, output_tokens: 80, cost: Usd::dollars(0.004) });
        cx.spend(Usage { calls: 1, ..Usage::default() });
        if *number == 0 { Err(NodeError::terminal("the answer is cut off")) } else { Ok(()) }
    }

    async fn post(&self, _: &mut u32, _: u32, (): ()) -> Result<()> {
        Ok(())
    }
}

fn asking() -> AsyncFlow<u32> {
    let mut flow = AsyncFlow::builder("asking");
    let begin = flow.add("begin", |_: &mut u32| ());
    let ask = flow.add("ask", Ask);
    flow.start(begin);
    flow.route(begin >> ask);
    flow.build().unwrap()
}

/// A store with a run that ended (`one`), one that failed (`zero`), and one with two children (`two`).
fn desk() -> Desk {
    let desk = Desk::empty();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(desk.store()).await.unwrap();
        let runs = store.runs(asking()).await.unwrap();
        for (id, number) in [("one", 1), ("zero", 0)] {
            runs.start(id, number).await.unwrap().settled().await.unwrap();
        }
        let mut flow = AsyncFlow::builder("each");
        let each = asking().batch(|_: &u32| vec![1, 2], |_: &mut u32, _: Vec<u32>| ()).journaled();
        let each = flow.add("each", each);
        flow.start(each);
        let runs = store.runs(flow.build().unwrap()).await.unwrap();
        runs.start("two", 2).await.unwrap().finished().await.unwrap().ended().unwrap();
        store.close().await;
    });
    desk
}

#[test]
fn show_has_what_each_step_used_and_the_sum() {
    let desk = desk();

    let text = desk.flowstone("runs show one").ok();

    let lines = squeezed(&text);
    assert!(text.contains("\nused      2 calls, 1200 tokens in, 80 out, $0.004\n"), "{text}");
    assert!(lines.iter().any(|line| line.ends_with("ITEMS STATE STORED USED")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("1 0 begin") && line.ends_with(" B -")), "{text}");
    let used = " B 2 calls, 1200 tokens in, 80 out, $0.004";
    assert!(lines.iter().any(|line| line.starts_with("2 1 ask") && line.ends_with(used)), "{text}");
}

#[test]
fn a_failed_visit_and_children_count_for_the_run() {
    let desk = desk();

    let (failed, parent) = (desk.flowstone("runs show zero").ok(), desk.flowstone("runs show two").ok());

    assert!(failed.contains("\nused      2 calls, 1200 tokens in, 80 out, $0.004\n"), "{failed}");
    assert!(parent.contains("\nused      4 calls, 2400 tokens in, 160 out, $0.008\n"), "{parent}");
    // No step of theirs used anything itself.
    assert!(!failed.contains("USED") && !parent.contains("USED"), "{failed}{parent}");
}

#[test]
fn as_json_it_is_always_there() {
    let desk = desk();
    let call = json!({ "calls": 2, "input_tokens": 1200, "output_tokens": 80, "cost_usd_nanos": 4_000_000 });
    let nothing = json!({ "calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd_nanos": 0 });

    let shown = desk.json("runs show one");

    assert_eq!(shown["usage"], call);
    assert_eq!(shown["steps"][2]["usage"], call);
    assert_eq!(shown["steps"][1]["usage"], nothing);
    assert_eq!(Desk::with_runs().json("runs show march")["usage"], nothing);
}

#[test]
fn a_store_that_no_program_has_upgraded_yet_is_shown() {
    let desk = Desk::empty();
    let fixture = "../durable/tests/fixtures/schema-1.db";
    std::fs::copy(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture), desk.store()).unwrap();

    let text = desk.flowstone("runs show ended").ok();

    assert!(text.contains("\nstatus    ended\n") && !text.contains("used"), "{text}");
    let refused = desk.flowstone("runs delete ended").failed();
    assert!(refused.ends_with("start that program once"), "{refused}");
}
