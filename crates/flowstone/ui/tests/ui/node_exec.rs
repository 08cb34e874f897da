#![allow(unused_variables)]

use flowstone::prelude::*;

struct Trip {
    city: String,
}

struct ByValue;

#[node]
impl ByValue {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn exec(&self, city: String) {}
}

struct Mutable;

#[node]
impl Mutable {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn exec(&self, city: &mut String) {}
}

struct ContextFirst;

#[node]
impl ContextFirst {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn exec(&self, cx: &Context, city: &str) {}
}

struct ContextByValue;

#[node]
impl ContextByValue {
    fn exec(&self, cx: Context) {}
}

struct NoPrep;

#[node]
impl NoPrep {
    fn exec(&self, city: &str) {}
}

struct TooMany;

#[node]
impl TooMany {
    fn prep(&self, trip: &Trip) -> (String, u32) {
        (trip.city.clone(), 1)
    }
    fn exec(&self, city: &str, days: &u32, cx: &Context) -> Result<u32> {
        Ok(*days)
    }
}

fn main() {}
