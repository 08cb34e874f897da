#![allow(unused_variables)]

use flowstone::prelude::*;

#[derive(Action)]
enum Found {
    Yes,
}

fn main() {
    let mut flow = Flow::builder("trip");
    let fetch = flow.add("fetch", |_: &mut u32| Found::Yes);
    let tell = flow.add("tell", |_: &mut u32| ());
    flow.route(fetch - "yes" >> tell);
    flow.route(tell - "again" >> fetch);
}
