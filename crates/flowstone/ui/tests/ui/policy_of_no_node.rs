#![allow(unused_variables)]

use flowstone::prelude::*;

fn run(flow: &Flow<u32>) {
    let options = RunOptions::new().timeout(Duration::from_secs(5));
    let _ = flow.run_with(&mut 1, &options);
}

fn retry() {
    let retry = Retry::attempts(3).timeout(Duration::from_secs(5));
}

fn main() {}
