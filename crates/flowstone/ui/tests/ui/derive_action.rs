#![allow(unused_variables)]

use flowstone::prelude::*;

#[derive(Action)]
struct Struct {
    yes: bool,
}

#[derive(Action)]
union Union {
    yes: u8,
}

#[derive(Action)]
enum Empty {}

#[derive(Action)]
enum Generic<T> {
    Yes,
    No(T),
}

#[derive(Action)]
#[action(name = "fields")]
enum Fields {
    Yes(u32),
    No { why: String },
}

#[derive(Action)]
enum Twice {
    NotFound,
    #[action(name = "not_found")]
    Missing,
    #[action(name = "")]
    Nothing,
    #[action]
    Bare,
    #[action(rename = "x")]
    Other,
    #[action(name = 3)]
    Number,
    #[action(name = "a")]
    #[action(name = "b")]
    Both,
}

fn main() {}
