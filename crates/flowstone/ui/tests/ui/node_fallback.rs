#![allow(unused_variables)]

use flowstone::prelude::*;

struct NoError;

#[node]
impl NoError {
    fn prep(&self, n: &u64) -> String {
        n.to_string()
    }
    fn exec(&self, text: &str) -> Result<u64> {
        Ok(text.parse()?)
    }
    fn exec_fallback(&self, text: &str) -> u64 {
        0
    }
}

struct BorrowsError;

#[node]
impl BorrowsError {
    fn exec(&self) -> Result<u64> {
        Ok(1)
    }
    fn exec_fallback(&self, error: &NodeError) -> u64 {
        0
    }
}

fn main() {}
