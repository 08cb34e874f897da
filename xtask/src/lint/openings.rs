//! A comment says its thing in a sentence: one that opens with What, Whether, Who, How or Why is a question, or a
//! riddle.

use super::tree::{Fault, File};

const WORDS: [&str; 5] = ["What", "Whether", "Who", "How", "Why"];

/// Checks the comments of a Rust file.
pub(super) fn check(file: &File) -> Vec<Fault> {
    if !file.is_rust() {
        return Vec::new();
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let opens = |(index, line): (usize, &&str)| {
        let word = first_word(comment(line)?);
        let is_riddle = WORDS.contains(&word) && !is_question(&lines[index..]);
        is_riddle
            .then(|| file.fault(index + 1, format!("a comment opens with `{word}`: say it as a sentence with a verb")))
    };
    lines.iter().enumerate().filter_map(opens).collect()
}

/// Returns the text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()
}

/// Returns whether the sentence with which the first of some lines begins ends with a question mark.
fn is_question(lines: &[&str]) -> bool {
    let mut text = lines.iter().map_while(|line| comment(line)).flat_map(|line| line.chars().chain([' ']));
    text.find(|c| matches!(c, '.' | '?' | '!')) == Some('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_comment_is_read() {
        let text = "//! What it is.\n\n/// Whether it holds.\nfn f() {\n    // Who asks is told.\n}\n";

        let found = faults("crates/core/src/x.rs", text);

        assert_eq!(found.len(), 3);
        assert!(found[1].starts_with("crates/core/src/x.rs:3: a comment opens with `Whether`"), "{found:?}");
    }

    #[test]
    fn questions_and_other_sentences_are_fine() {
        let text = "/// How would one\n/// do that? Like this.\n/// Returns how many. However, `What` is a word.\nlet what = \"What\";\n";

        assert_eq!(faults("crates/core/src/x.rs", text), [""; 0]);
    }

    #[test]
    fn no_comment_of_the_project_is_a_riddle() {
        let files = crate::lint::tree::read(&crate::run::root().unwrap()).unwrap();

        let faults: Vec<String> = files.iter().flat_map(check).map(|fault| fault.to_string()).collect();

        assert_eq!(faults, [""; 0]);
    }
}
