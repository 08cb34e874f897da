#![allow(unused_variables)]

use flowstone::prelude::*;

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

fn main() {
    let mut flow = AsyncFlow::<u32>::builder("trip");
    flow.add("bare", Batch.spawned());
    flow.add("with", Batch.retry(Retry::attempts(2)).spawned());
}
