//! The parts of a step by themselves: `cargo bench -p flowstone-bench`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use flowstone::{Action, Context, END, Flow, Label, NodeExt, Retry, Unrouted, step};

/// A flow of one node, to see what a run costs beside its steps.
fn run(criterion: &mut Criterion) {
    let mut flow = Flow::builder("one");
    let node = flow.add("add", |n: &mut u64| *n += 1);
    flow.start(node);
    let flow = flow.build().expect("the flow is right");
    criterion.bench_function("run of one closure", |bench| {
        bench.iter(|| {
            let mut n = 0;
            flow.run(black_box(&mut n)).expect("it cannot fail");
            n
        });
    });
}

/// A thousand steps, routed by labels, by strings, and through three levels of flows.
fn routes(criterion: &mut Criterion) {
    let typed = typed();
    criterion.bench_function("1,000 typed steps", |bench| bench.iter(|| thousand(&typed)));
    let strings = strings();
    criterion.bench_function("1,000 string steps", |bench| bench.iter(|| thousand(&strings)));
    let nested = nested();
    criterion.bench_function("1,000 steps three flows deep", |bench| bench.iter(|| thousand(&nested)));
}

fn thousand(flow: &Flow<u64>) -> u64 {
    let mut n = 0;
    flow.run(black_box(&mut n)).expect("it cannot fail");
    n
}

#[derive(flowstone::Action)]
enum Go {
    On,
    Out,
}

fn count(n: &mut u64) -> Go {
    *n += 1;
    if *n < 1000 { Go::On } else { Go::Out }
}

fn typed() -> Flow<u64> {
    let mut flow = Flow::builder("typed");
    let node = flow.add("count", count);
    flow.start(node);
    flow.route(node - Go::On >> node);
    flow.route(node - Go::Out >> END);
    flow.build().expect("the flow is right")
}

fn strings() -> Flow<u64> {
    let mut flow = Flow::builder("strings");
    let node = flow.add("count", |n: &mut u64| Action::from(Go::NAMES[count(n) as usize]));
    flow.start(node);
    flow.unrouted(Unrouted::End);
    flow.route(node - "on" >> node);
    flow.build().expect("the flow is right")
}

fn nested() -> Flow<u64> {
    let mut inner = Flow::builder("inner");
    let node = inner.add("count", count);
    inner.start(node);
    let mut flow = inner.build().expect("the flow is right");
    for name in ["middle", "outer"] {
        let mut around = Flow::builder(name);
        let node = around.add("flow", flow);
        around.start(node);
        if name == "outer" {
            around.route(node - "on" >> node);
            around.route(node - "out" >> END);
        }
        flow = around.build().expect("the flow is right");
    }
    flow
}

/// Measures a policy that is not needed.
fn policy(criterion: &mut Criterion) {
    let mut flow = Flow::builder("retry");
    let work = step(|n: &u64| *n, |n: &u64| Ok(n + 1), |n: &mut u64, _, sum: u64| *n = sum);
    let node = flow.add("work", work.retry(Retry::attempts(3)));
    flow.start(node);
    let flow = flow.build().expect("the flow is right");
    criterion.bench_function("run of one step with retries", |bench| bench.iter(|| thousand(&flow)));
    criterion.bench_function("idempotency key", |bench| {
        let cx = Context::detached();
        bench.iter(|| black_box(&cx).idempotency_key());
    });
}

criterion_group!(micro, run, routes, policy);
criterion_main!(micro);
