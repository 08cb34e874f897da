use flowstone::prelude::*;

struct Page(u32);

struct Batch;

#[node(batch)]
impl Batch {
    fn prep(&self, n: &u32) -> Vec<u32> {
        vec![*n]
    }
    async fn exec(&self, n: &u32) -> Page {
        Page(*n)
    }
    fn post(&self, n: &mut u32, pages: Vec<Page>) {
        *n = pages.iter().map(|page| page.0).sum();
    }
}

fn main() {
    let mut flow = AsyncFlow::<u32>::builder("trip");
    flow.add("batch", Batch.parallel(4).journaled());
}
