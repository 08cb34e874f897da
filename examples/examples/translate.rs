//! A text in many languages at once: a parallel batch, whose outputs come in the order of the items.
//!
//! The model is a small dictionary that takes its time. It needs a second attempt for one language, and does not know
//! another: `post` takes results, so that this ends nothing but its own item.
//!
//! ```text
//! cargo run --example translate
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it shows")]

use flowstone::{BuildError, prelude::*};
use serde::{Deserialize, Serialize};

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

#[derive(Serialize, Deserialize)]
pub(crate) struct Book {
    text: String,
    languages: Vec<String>,
    pages: Vec<(String, Result<String, String>)>,
}

/// A text, and the language that it is to be in.
struct Order {
    text: String,
    language: String,
}

struct Translate;

#[node(batch)]
impl Translate {
    fn prep(&self, book: &Book) -> Vec<Order> {
        let order = |language: &String| Order { text: book.text.clone(), language: language.clone() };
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
        book.pages = orders.into_iter().map(|order| order.language).zip(pages).collect();
    }
}

pub(crate) fn flow() -> Result<AsyncFlow<Book>, BuildError> {
    let mut flow = AsyncFlow::builder("translate");
    let retry = Retry::attempts(3).fixed(Duration::from_millis(5));
    let translate = flow.add("translate", Translate.parallel(4).retry(retry));
    flow.start(translate);
    flow.build()
}

/// The state to start with.
pub(crate) fn book() -> Book {
    let text = "Good morning, dear friends".to_owned();
    Book { text, languages: LANGUAGES.map(str::to_owned).to_vec(), pages: Vec::new() }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut book = book();
    flow()?.run_async(&mut book).await?;
    for (language, page) in &book.pages {
        match page {
            Ok(page) => println!("{language:<11} {page}"),
            Err(error) => println!("{language:<11} failed: {error}"),
        }
    }
    Ok(())
}
