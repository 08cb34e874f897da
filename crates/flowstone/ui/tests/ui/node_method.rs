#![allow(unused_variables)]

use flowstone::prelude::*;

struct A;

#[node]
impl A {
    fn prep(state: &u32) -> u32 {
        *state
    }
    fn exec(&mut self, n: &u32) -> u32 {
        *n
    }
    fn post(self, state: &mut u32, _: u32, n: u32) {
        *state = n;
    }
}

struct B;

#[node]
impl B {
    fn prep<T>(&self, state: &u32) -> u32 {
        *state
    }
    unsafe fn exec(&self, n: &u32) -> u32 {
        *n
    }
    #[cfg(test)]
    fn post(&self, state: &mut impl Sized, _: u32, n: u32) {}
}

fn main() {}
