#![allow(unused_variables)]

use std::rc::Rc;

use flowstone::prelude::*;

struct Trip {
    city: Rc<str>,
}

struct Fetch;

#[node]
impl Fetch {
    async fn prep(&self, trip: &Trip) -> String {
        trip.city.to_string()
    }
    async fn post(&self, trip: &mut Trip, city: String) {
        trip.city = city.into();
    }
}

fn main() {
    let mut flow = Flow::<Trip>::builder("trip");
    flow.add("tell", |trip: &mut Trip| drop(trip.city.clone()));
}
