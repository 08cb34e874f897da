#![allow(unused_variables)]

use flowstone::prelude::*;

struct Fetch;

#[node]
impl Fetch {
    fn prep(&self, n: &u32) -> u32 {
        *n
    }
    async fn exec(&self, n: &u32) -> u32 {
        *n
    }
}

fn node() {
    let mut flow = Flow::<u32>::builder("trip");
    flow.add("fetch", Fetch);
}

fn node_with_a_policy() {
    let mut flow = Flow::<u32>::builder("trip");
    flow.add("fetch", Fetch.retry(Retry::attempts(3)));
}

fn flow(inner: AsyncFlow<u32>) {
    let mut flow = Flow::<u32>::builder("trip");
    flow.add("inner", inner);
}

fn main() {}
