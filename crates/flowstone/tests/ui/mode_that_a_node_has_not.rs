#![allow(unused_variables)]

use flowstone::prelude::*;

struct Single;

#[node]
impl Single {
    async fn post(&self, n: &mut u32) {
        *n += 1;
    }
}

struct Batch;

#[node(batch)]
impl Batch {
    fn prep(&self, n: &u32) -> Vec<u32> {
        vec![*n]
    }
    async fn exec(&self, n: &u32) -> u32 {
        *n
    }
}

fn parallel_single() {
    let mut flow = AsyncFlow::<u32>::builder("trip");
    flow.add("single", Single.parallel(4));
}

fn inline_async() {
    let mut flow = AsyncFlow::<u32>::builder("trip");
    flow.add("single", Single.inline());
}

fn main() {}
