#![allow(unused_variables)]

use std::{future::Future, pin::Pin};

use flowstone::prelude::*;

type Res<T> = Result<T, NodeError>;
type Later<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

struct Alias;

#[node]
impl Alias {
    fn prep(&self, n: &u32) -> Res<u32> {
        Ok(*n)
    }
    fn exec(&self, n: &Res<u32>) -> std::io::Result<u32> {
        Ok(1)
    }
    fn post(&self, n: &mut u32, prep: Res<u32>, exec: u32) {}
}

struct AliasInABatch;

#[node(batch)]
impl AliasInABatch {
    fn prep(&self, n: &u32) -> Vec<u32> {
        vec![*n]
    }
    async fn exec(&self, n: &u32) -> Res<u32> {
        Ok(*n)
    }
    fn post(&self, n: &mut u32, outcomes: Vec<Res<u32>>) {}
}

struct Generic<T>(T);

#[node]
impl<T: Clone + Send + Sync + 'static> Generic<T> {
    fn exec(&self) -> Res<T> {
        Ok(self.0.clone())
    }
}

trait Gives {
    type Given;
}

struct Projected;

impl Gives for Projected {
    type Given = Res<u32>;
}

#[node]
impl Projected {
    fn exec(&self) -> <Self as Gives>::Given {
        Ok(1)
    }
}

struct Awaited;

#[node]
impl Awaited {
    fn exec(&self) -> Later<u32> {
        Box::pin(async { 1 })
    }
}

fn main() {}
