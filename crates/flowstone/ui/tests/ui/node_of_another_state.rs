#![allow(unused_variables)]

use flowstone::prelude::*;

struct Trip;
struct Order;

struct Fetch;

#[node]
impl Fetch {
    fn post(&self, trip: &mut Trip) {}
}

struct NotANode;

fn main() {
    let mut flow = AsyncFlow::<Order>::builder("order");
    flow.add("fetch", Fetch);
    flow.add("not", NotANode);
    flow.add("function", |_: &mut Trip| ());
}
