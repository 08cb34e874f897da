#![allow(unused_variables)]

use flowstone::prelude::*;

#[derive(Action)]
enum Found {
    Yes,
    No,
}

fn main() {
    let mut flow = Flow::builder("trip");
    let fetch = flow.add("fetch", |n: &mut u32| if *n > 0 { Found::Yes } else { Found::No });
    let tell = flow.add("tell", |_: &mut u32| ());
    flow.route(fetch >> tell);
    flow.route(tell >> fetch >> END);
}
