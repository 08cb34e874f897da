//! The paragraphs of a folder of text files, to be found by their words.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A paragraph, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The name of its file.
    pub file: String,
    /// The text.
    pub text: String,
}

/// Reads the paragraphs of the `.md` and `.txt` files of a folder, in the order of their names; titles are left out.
///
/// # Errors
///
/// If the folder or a file cannot be read.
pub fn read(folder: &Path) -> io::Result<Vec<Passage>> {
    let entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    let is_text = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "md" || kind == "txt");
    let mut paths: Vec<PathBuf> = entries.into_iter().filter(is_text).collect();
    paths.sort();

    let mut passages = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?.replace("\r\n", "\n");
        let paragraphs = text.split("\n\n").map(str::trim).filter(|text| !text.is_empty() && !text.starts_with('#'));
        passages.extend(paragraphs.map(|text| Passage { file: file.clone(), text: text.to_owned() }));
    }
    Ok(passages)
}

/// Returns the passages with most words of a query, best first, at most so many; none without a word of it.
///
/// # Example
///
/// ```
/// use flowstone_examples_models::passages::{Passage, search};
///
/// let passage = |text: &str| Passage { file: "tea.md".into(), text: text.into() };
/// let passages = [passage("Tea is kept dry."), passage("Green tea is brewed.")];
/// assert_eq!(search(&passages, "brewing green tea", 1), [&passages[1]]);
/// assert!(search(&passages, "coffee", 1).is_empty());
/// ```
#[must_use]
pub fn search<'a>(passages: &'a [Passage], query: &str, most: usize) -> Vec<&'a Passage> {
    let wanted = words(query);
    let points = |passage: &Passage| words(&passage.text).iter().filter(|word| wanted.contains(word)).count();
    let mut found: Vec<_> = passages.iter().map(|passage| (points(passage), passage)).collect();
    found.retain(|(points, _)| *points > 0);
    found.sort_by_key(|(points, _)| std::cmp::Reverse(*points));
    found.into_iter().take(most).map(|(_, passage)| passage).collect()
}

/// The words that say something: those of more than two letters.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.len() > 2);
    words.map(str::to_lowercase).collect()
}
