#![allow(unused_variables)]

use flowstone::prelude::*;

struct Trip {
    city: String,
}

struct Instead;

#[node]
impl Instead {
    fn exec(&self, trip: &Trip) -> usize {
        trip.city.len()
    }
    fn post(&self, trip: &mut Trip, length: usize) {}
}

struct Besides;

#[node]
impl Besides {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn exec(&self, city: &str, trip: &mut Trip, cx: &Context) {}
}

fn main() {}
