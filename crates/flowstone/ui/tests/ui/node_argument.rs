#![allow(unused_variables)]

use flowstone::prelude::*;

#[node(parallel)]
impl A {
    fn post(&self, _: &mut u32) {}
}

#[node(async)]
impl A {}

#[node(batch, retry = 3, "x")]
impl A {}

#[node]
struct A;

#[node]
impl Default for A {
    fn default() -> Self {
        A
    }
}

fn main() {}
