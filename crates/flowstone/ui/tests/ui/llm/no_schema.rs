use flowstone::llm::function;
use flowstone::prelude::*;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Doc {
    text: String,
    invoices: Vec<Invoice>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Invoice {
    total: u64,
}

fn main() {
    let model = Model::named("ollama:llama3.2").unwrap();
    let mut flow = AsyncFlow::builder("read");

    let one = Extract::prompt(&model, "{{ text }}", |doc: &mut Doc, found: Invoice| doc.invoices.push(found)).repairs(1);
    let read = flow.add("read", one);
    flow.start(read);

    let each = Extract::each(
        &model,
        "{{ item }}",
        |doc: &Doc| vec![doc.text.clone()],
        |doc: &mut Doc, found: Vec<Invoice>| doc.invoices = found,
    );
    flow.add("each", each.parallel(2));

    let all = Extract::prompt(&model, "{{ text }}", |doc: &mut Doc, found: Vec<Invoice>| doc.invoices = found);
    flow.add("all", all);

    function("pay", "Pays it", |invoice: Invoice| async move { Ok(invoice.total) });
}
