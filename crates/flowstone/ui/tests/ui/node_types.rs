#![allow(unused_variables)]

use flowstone::prelude::*;

struct Trip {
    city: String,
}

struct Differ;

#[node]
impl Differ {
    fn prep(&self, trip: &Trip) -> String {
        trip.city.clone()
    }
    fn exec(&self, city: &u32) -> Result<u32> {
        Ok(*city)
    }
    fn exec_fallback(&self, city: &str, error: NodeError) -> String {
        error.to_string()
    }
    fn post(&self, trip: &mut Trip, city: String, days: String) {}
}

struct NoAction;

#[node]
impl NoAction {
    fn post(&self, trip: &mut Trip) -> String {
        "done".to_owned()
    }
}

struct NoError;

#[node]
impl NoError {
    fn exec(&self) -> Result<u32, u32> {
        Ok(1)
    }
}

struct Raw(*const u8);

struct NotSendPrep;

#[node]
impl NotSendPrep {
    fn prep(&self, trip: &Trip) -> Raw {
        Raw(trip.city.as_ptr())
    }
}

fn main() {}
