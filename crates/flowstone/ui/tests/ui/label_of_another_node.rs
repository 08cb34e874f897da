#![allow(unused_variables)]

use flowstone::prelude::*;

#[derive(Action)]
enum Found {
    Yes,
    No,
}

#[derive(Action)]
enum Verdict {
    Approve,
    Reject,
}

fn main() {
    let mut flow = Flow::builder("trip");
    let fetch = flow.add("fetch", |_: &mut u32| Found::Yes);
    let judge = flow.add("judge", |_: &mut u32| Verdict::Approve);
    flow.route(fetch - Found::No >> judge);
    flow.route(fetch - Verdict::Approve >> judge);
    flow.route(judge - Verdict::Reject >> END);
}
