//! The rules of STYLE for Rust files, as far as they can be read from their text.

use super::tree::{Fault, File};

/// Beyond this a file is to be split.
const MOST_LINES: usize = 800;

/// Beyond this, without its tests, a file may be two.
const MANY_LINES: usize = 400;

/// Words that promise what is not there. Put together here, so that this file does not hold them.
const PROMISES: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

const IGNORED_TEST: &str = concat!("#[", "ignore");

const FENCE: &str = "```";

/// Checks a Rust file; and, in a Markdown file, the code that is run as doc tests.
pub(super) fn check(file: &File) -> Vec<Fault> {
    let mut faults = Vec::new();
    if file.is_rust() || file.is_markdown() {
        faults.extend(ignored_fences(file));
    }
    if file.is_rust() {
        faults.extend(header(file));
        faults.extend(unfinished(file));
        let lines = file.text.lines().count();
        if lines > MOST_LINES {
            faults.push(file.fault(lines, format!("{lines} lines are too many, at most {MOST_LINES}: split the file")));
        }
    }
    faults
}

/// Returns a remark: no fault, but worth a thought.
pub(super) fn remark(file: &File) -> Option<Fault> {
    if !file.is_rust() || is_tests(&file.path) {
        return None;
    }
    let lines = file.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    (lines > MANY_LINES).then(|| file.fault(lines, format!("{lines} lines without tests: are they two files?")))
}

fn header(file: &File) -> Option<Fault> {
    let needs_header = !is_golden(&file.path);
    (needs_header && !file.text.starts_with("//!")).then(|| file.fault(1, "a file opens with `//!`, its purpose"))
}

fn unfinished(file: &File) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in file.lines() {
        if line.contains(IGNORED_TEST) {
            faults.push(file.fault(number, "an ignored test: every test runs"));
        }
        for promise in PROMISES.into_iter().filter(|promise| has_word(line, promise)) {
            faults.push(file.fault(number, format!("`{promise}`: finish it, or write a decision")));
        }
    }
    faults
}

fn ignored_fences(file: &File) -> impl Iterator<Item = Fault> {
    file.lines().filter(|(_, line)| opens_ignored_fence(line)).map(|(number, _)| {
        file.fault(number, "an ignored example: examples run, `no_run` only where a network is needed")
    })
}

fn opens_ignored_fence(line: &str) -> bool {
    let doc = line.trim_start();
    let text = ["///", "//!"].iter().find_map(|mark| doc.strip_prefix(mark)).unwrap_or(doc);
    let Some(info) = text.trim_start().strip_prefix(FENCE) else { return false };
    info.split([',', ' ', '{', '}']).any(|word| word == "ignore" || word.starts_with("ignore-"))
}

/// Golden inputs of the compile-error tests: their line numbers stand in the expected output.
fn is_golden(path: &str) -> bool {
    path.contains("/tests/ui/")
}

fn is_tests(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part_of_a_word) && (word.ends_with('!') || !after.is_some_and(part_of_a_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> File {
        File { path: "crates/x/src/x.rs".to_owned(), text: text.to_owned() }
    }

    fn shown(text: &str) -> Vec<String> {
        check(&rust(text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_file_has_no_faults() {
        assert_eq!(shown("//! Adds.\n\n/// ```\n/// assert!(true);\n/// ```\nfn todo_list() {}\n"), [""; 0]);
    }

    #[test]
    fn each_fault_names_its_line() {
        let text = format!("//! X.\n/// {FENCE}rust,ignore\n{IGNORED_TEST}]\n// {}: later\n", PROMISES[0]);

        let faults = shown(&text);

        assert_eq!(faults.len(), 3);
        for (fault, line) in faults.iter().zip([2, 3, 4]) {
            assert!(fault.starts_with(&format!("crates/x/src/x.rs:{line}: ")), "{fault}");
        }
    }

    #[test]
    fn ignored_fences_are_seen_in_every_form() {
        for form in ["/// ```ignore", "//! ```rust,ignore", "    /// ```ignore-wasm32", "```rust,ignore"] {
            assert!(opens_ignored_fence(form), "{form}");
        }
        for form in ["/// ```no_run", "/// ```", "/// ```text", "// one may ignore this"] {
            assert!(!opens_ignored_fence(form), "{form}");
        }
    }

    #[test]
    fn a_header_is_needed_but_in_golden_files() {
        let headless = "fn main() {}\n";

        assert_eq!(shown(headless).len(), 1);
        let golden = File { path: "crates/x/tests/ui/wrong.rs".to_owned(), text: headless.to_owned() };
        assert_eq!(check(&golden), []);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word(&format!("// {}: x", PROMISES[2]), PROMISES[2]));
        assert!(!has_word(&format!("{}L", PROMISES[2]), PROMISES[2]));
        assert!(has_word(&format!("{}()", PROMISES[4]), PROMISES[4]));
    }

    #[test]
    fn long_files_are_faults_and_half_long_ones_remarks() {
        let of = |lines: usize| rust(&("//! X.\n".to_owned() + &"//\n".repeat(lines - 1)));

        assert_eq!(check(&of(800)), []);
        assert_eq!(check(&of(801)).len(), 1);
        assert!(remark(&of(401)).is_some());
        assert!(remark(&of(400)).is_none());
    }

    #[test]
    fn tests_do_not_count_for_the_remark() {
        let file = rust(&("//! X.\n#[cfg(test)]\n".to_owned() + &"//\n".repeat(500)));

        assert_eq!(remark(&file), None);
    }
}
