#![allow(unused_variables)]

use flowstone::prelude::*;

struct Trip {
    city: String,
}

struct NoState;

#[node]
impl NoState {
    fn prep(&self) -> String {
        String::new()
    }
    fn post(&self, trip: &mut Trip, city: String) {}
}

struct Writes;

#[node]
impl Writes {
    fn prep(&self, trip: &mut Trip) -> String {
        trip.city.clone()
    }
}

struct Takes;

#[node]
impl Takes {
    fn prep(&self, trip: Trip) -> String {
        trip.city
    }
}

struct Borrows;

#[node]
impl Borrows {
    fn prep(&self, trip: &Trip) -> &str {
        &trip.city
    }
    fn exec(&self) -> Option<std::borrow::Cow<'_, str>> {
        None
    }
}

struct Unnamed;

#[node]
impl Unnamed {
    fn prep(&self, trip: &Trip) -> impl Iterator<Item = char> {
        std::iter::empty()
    }
    fn exec(&self) -> impl Future<Output = u32> {
        std::future::ready(1)
    }
}

fn main() {}
