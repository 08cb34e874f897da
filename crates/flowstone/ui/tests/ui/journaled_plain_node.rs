use flowstone::prelude::*;

struct Single;

#[node]
impl Single {
    async fn post(&self, n: &mut u32) {
        *n += 1;
    }
}

fn main() {
    let mut flow = AsyncFlow::<u32>::builder("trip");
    flow.add("single", Single.journaled());
}
