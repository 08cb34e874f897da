#![allow(unused_variables)]

use flowstone::{durable::{FlowOptions, StoreOptions}, prelude::*};

fn run(flow: &Flow<u32>) {
    let options = RunOptions::new().timeout(Duration::from_secs(5));
    let _ = flow.run_with(&mut 1, &options);
}

fn retry() {
    let retry = Retry::attempts(3).timeout(Duration::from_secs(5));
}

fn durable() {
    let flow = FlowOptions::default().max_visits(10).retry(Retry::attempts(3));
    let store = StoreOptions::new().parallel(4);
}

fn main() {}
