#![allow(unused_variables)]

use flowstone::prelude::*;

struct A;

#[node]
impl A {
    fn execute(&self) {}
}

struct B;

#[node]
impl B {
    fn exec_fallback(&self, error: NodeError) {}
}

fn main() {}
