#![allow(unused_variables)]

use flowstone::prelude::*;

struct Empty;

#[node(batch)]
impl Empty {
    fn post(&self, texts: &mut Vec<String>, lengths: Vec<usize>) {}
}

struct NoItems;

#[node(batch)]
impl NoItems {
    fn prep(&self, texts: &Vec<String>) -> String {
        texts.concat()
    }
    fn exec(&self) -> usize {
        1
    }
}

struct NoOutcomes;

#[node(batch)]
impl NoOutcomes {
    fn prep(&self, texts: &Vec<String>) -> Vec<String> {
        texts.clone()
    }
    fn exec(&self, text: String) -> Result<usize> {
        Ok(text.len())
    }
    fn post(&self, texts: &mut Vec<String>, length: usize) {}
}

struct Alone;

#[node(batch)]
impl Alone {
    fn prep(&self, texts: &Vec<String>) -> Vec<String> {
        texts.clone()
    }
    fn exec(&self, text: &str) -> Result<usize> {
        Ok(text.len())
    }
    fn post(&self, texts: &mut Vec<String>) {}
}

fn main() {}
