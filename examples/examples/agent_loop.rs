//! An agent: it decides, searches, decides again, and answers when it knows enough. Its model is a rule.
//!
//! ```text
//! cargo run --example agent_loop
//! cargo run --example agent_loop -- "Who painted the Mona Lisa?"
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it shows")]

use flowstone::{BuildError, prelude::*};
use serde::{Deserialize, Serialize};

pub(crate) const QUESTION: &str = "In which city was the author of the novel behind Blade Runner born?";

/// The articles that a search can find, each by its title.
const ARTICLES: &[(&str, &str)] = &[
    ("Blade Runner", "Blade Runner is a film made from the novel Do Androids Dream of Electric Sheep."),
    ("Do Androids Dream of Electric Sheep", "Do Androids Dream of Electric Sheep has the author Philip K. Dick."),
    ("Philip K. Dick", "Philip K. Dick was born in the city of Chicago in 1928."),
    ("Mona Lisa", "The Mona Lisa was painted by Leonardo da Vinci."),
    ("Leonardo da Vinci", "Leonardo da Vinci was born in Anchiano, near Vinci."),
    ("Chicago", "Chicago lies on Lake Michigan."),
];

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Research {
    question: String,
    /// The words to search for next.
    topic: String,
    searched: Vec<String>,
    notes: Vec<String>,
    answer: String,
}

#[derive(Action)]
enum Decision {
    Search,
    Answer,
}

struct Decide;

#[node]
impl Decide {
    fn prep(&self, research: &Research) -> (String, Vec<String>, Vec<String>) {
        (research.question.clone(), research.notes.clone(), research.searched.clone())
    }

    /// Gives the next topic; none if the notes cover the question, or there is nothing left to look up.
    fn exec(&self, prep: &(String, Vec<String>, Vec<String>)) -> Option<&'static str> {
        let (question, notes, searched) = prep;
        if is_answered(question, notes) {
            return None;
        }
        let titles =
            ARTICLES.iter().map(|(title, _)| *title).filter(|title| !searched.iter().any(|seen| seen == title));
        // The note that was read last leads on.
        let mut read = notes.iter().rev().chain([question]);
        read.find_map(|text| titles.clone().find(|title| text.contains(title)))
    }

    fn post(
        &self,
        research: &mut Research,
        _prep: (String, Vec<String>, Vec<String>),
        topic: Option<&'static str>,
    ) -> Decision {
        let Some(topic) = topic else {
            println!("decide: answer");
            return Decision::Answer;
        };
        println!("decide: search for “{topic}”");
        research.topic = topic.to_owned();
        Decision::Search
    }
}

struct Search;

#[node]
impl Search {
    fn prep(&self, research: &Research) -> String {
        research.topic.clone()
    }

    fn exec(&self, topic: &str) -> Option<&'static str> {
        ARTICLES.iter().find(|(title, _)| *title == topic).map(|(_, text)| *text)
    }

    fn post(&self, research: &mut Research, topic: String, text: Option<&'static str>) {
        println!("search: {}", text.unwrap_or("nothing"));
        research.notes.extend(text.map(str::to_owned));
        research.searched.push(topic);
    }
}

struct Answer;

#[node]
impl Answer {
    fn prep(&self, research: &Research) -> (String, Vec<String>) {
        (research.question.clone(), research.notes.clone())
    }

    /// Takes the note with which the research was complete.
    fn exec(&self, prep: &(String, Vec<String>)) -> Option<String> {
        let (question, notes) = prep;
        notes.last().filter(|_| is_answered(question, notes)).cloned()
    }

    fn post(&self, research: &mut Research, _prep: (String, Vec<String>), answer: Option<String>) {
        research.answer = answer.unwrap_or_else(|| "I found nothing about that.".to_owned());
    }
}

/// Returns `true` if the notes have every word of the question that an answer should have.
fn is_answered(question: &str, notes: &[String]) -> bool {
    const COMMON: [&str; 8] = ["In", "which", "the", "was", "behind", "Who", "Where", "of"];

    let known = notes.join(" ");
    let mut words = question.split(|letter: char| !letter.is_alphanumeric());
    words.all(|word| word.is_empty() || COMMON.contains(&word) || known.contains(word))
}

pub(crate) fn flow() -> Result<Flow<Research>, BuildError> {
    let mut flow = Flow::builder("agent");
    let decide = flow.add("decide", Decide);
    let search = flow.add("search", Search);
    let answer = flow.add("answer", Answer);
    flow.start(decide);
    flow.route(decide - Decision::Search >> search);
    flow.route(decide - Decision::Answer >> answer);
    flow.route(search >> decide);
    flow.build()
}

pub(crate) fn about(question: &str) -> Research {
    Research { question: question.to_owned(), ..Research::default() }
}

fn main() -> anyhow::Result<()> {
    let question = std::env::args().nth(1).unwrap_or_else(|| QUESTION.to_owned());
    println!("question: {question}");
    let mut research = about(&question);
    flow()?.run_with(&mut research, &RunOptions::new().max_visits(100))?;
    println!("answer: {}", research.answer);
    Ok(())
}
