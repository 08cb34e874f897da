//! A text in many languages at once: a parallel batch, whose outputs come in the order of the items.
//!
//! The model is a small dictionary that takes its time. It needs a second attempt for one language, and does not know
//! another: `post` takes results, so that this ends nothing but its own item.
//!
//! ```text
//! cargo run --example translate
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it shows")]

use flowstone::prelude::*;

/// Language, the time that it takes in milliseconds, and the translation of "Good morning, dear friends".
const DICTIONARY: &[(&str, u64, &str)] = &[
    ("Danish", 70, "Godmorgen, kære venner"),
    ("Dutch", 60, "Goedemorgen, beste vrienden"),
    ("French", 50, "Bonjour, chers amis"),
    ("German", 40, "Guten Morgen, liebe Freunde"),
    ("Italian", 30, "Buongiorno, cari amici"),
    ("Portuguese", 20, "Bom dia, queridos amigos"),
    ("Spanish", 10, "Buenos días, queridos amigos"),
];

const LANGUAGES: [&str; 8] = ["Spanish", "German", "Klingon", "Danish", "French", "Italian", "Dutch", "Portuguese"];

struct Book {
    text: String,
    languages: Vec<&'static str>,
    pages: Vec<(&'static str, Result<String, String>)>,
}

/// A text, and the language that it is to be in.
struct Order {
    text: String,
    language: &'static str,
}

struct Translate;

#[node(batch)]
impl Translate {
    fn prep(&self, book: &Book) -> Vec<Order> {
        let order = |language: &&'static str| Order { text: book.text.clone(), language };
        book.languages.iter().map(order).collect()
    }

    async fn exec(&self, order: &Order, cx: &Context) -> Result<String> {
        let Some((_, ms, translation)) = DICTIONARY.iter().find(|(language, ..)| *language == order.language) else {
            return Err(NodeError::terminal(format!("no dictionary for {}", order.language)));
        };
        if order.language == "French" && cx.attempt() == 0 {
            return Err("the dictionary is being lent out".into());
        }
        tokio::time::sleep(Duration::from_millis(*ms)).await;
        eprintln!("{} is ready", order.language); // in the order in which they finish
        Ok(format!("“{}”, for “{}”", translation, order.text))
    }

    fn post(&self, book: &mut Book, orders: Vec<Order>, pages: Vec<Result<String>>) {
        let pages = pages.into_iter().map(|page| page.map_err(|error| error.to_string()));
        book.pages = orders.iter().map(|order| order.language).zip(pages).collect();
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut flow = AsyncFlow::builder("translate");
    let retry = Retry::attempts(3).fixed(Duration::from_millis(5));
    let translate = flow.add("translate", Translate.parallel(4).retry(retry));
    flow.start(translate);
    let flow = flow.build()?;

    let text = "Good morning, dear friends".to_owned();
    let mut book = Book { text, languages: LANGUAGES.to_vec(), pages: Vec::new() };
    flow.run_async(&mut book).await?;
    for (language, page) in &book.pages {
        match page {
            Ok(page) => println!("{language:<11} {page}"),
            Err(error) => println!("{language:<11} failed: {error}"),
        }
    }
    Ok(())
}
