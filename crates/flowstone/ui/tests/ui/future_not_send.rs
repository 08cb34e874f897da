#![allow(unused_variables)]

use std::rc::Rc;

use flowstone::prelude::*;

struct Fetch;

#[node]
impl Fetch {
    fn prep(&self, n: &u32) -> u32 {
        *n
    }
    async fn exec(&self, n: &u32) -> u32 {
        let shared = Rc::new(*n);
        std::future::ready(()).await;
        *shared
    }
}

fn main() {}
