use flowstone::prelude::*;

struct Search;

mod own {
    pub struct Result(pub u32);
}

#[node]
impl Search {
    fn exec(&self) -> own::Result {
        own::Result(1)
    }
}

fn main() {}
