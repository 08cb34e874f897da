#![allow(unused_variables)]

use flowstone::prelude::*;

struct Lengths;

#[node(batch)]
impl Lengths {
    fn prep(&self, texts: &Vec<String>) -> Vec<String> {
        texts.clone()
    }
    fn exec(&self, text: &str) -> Result<usize> {
        Ok(text.len())
    }
    fn post(&self, texts: &mut Vec<String>, lengths: Vec<Option<usize>>) {}
}

fn main() {}
