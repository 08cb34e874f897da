#![allow(unused_variables)]

use flowstone::prelude::*;

fn builder() {
    let mut flow = Flow::<u32>::builder("trip");
    flow.add("itself", flow);
}

fn built() {
    let mut flow = Flow::<u32>::builder("trip");
    let built = flow.build().unwrap();
    flow.add("itself", built);
}

fn main() {}
