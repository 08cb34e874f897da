#![allow(unused_variables)]

use flowstone::prelude::*;

struct Trip {
    city: String,
}

struct Reads;

#[node]
impl Reads {
    fn post(&self, trip: &Trip) {}
}

struct TooFew;

#[node]
impl TooFew {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn exec(&self, city: &str) -> Vec<u32> {
        Vec::new()
    }
    fn post(&self, trip: &mut Trip, days: Vec<u32>) {}
}

struct TooMany;

#[node]
impl TooMany {
    fn post(&self, trip: &mut Trip, city: String) {}
}

struct Borrowed;

#[node]
impl Borrowed {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn post(&self, trip: &mut Trip, city: &String) {}
}

struct TwoStates;

#[node]
impl TwoStates {
    fn prep(&self, trip: &Trip) {}
    fn post(&self, trip: &mut Vec<Trip>, _: ()) {}
}

fn main() {}
