//! The words behind a job's name. What is left over or malformed is a [`Usage`] error, exit code 2.

use std::{error::Error, fmt, str::FromStr};

use anyhow::Result;

/// A mistake on the command line.
#[derive(Debug)]
pub(crate) struct Usage(String);

/// The words of a command line that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Arguments(Vec<String>);

impl Usage {
    /// An error that shows the help text too.
    pub(crate) fn error(what: String) -> anyhow::Error {
        Self(what).into()
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

impl Arguments {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Takes `--name`, and returns `true` if it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// Takes `--name VALUE`.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.0.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 == self.0.len() {
            return Err(Usage::error(format!("`{name}` lacks its value")));
        }
        let word = self.0.remove(at + 1);
        self.0.remove(at);
        parsed(name, &word).map(Some)
    }

    /// Takes `--name VALUE,VALUE…`.
    pub(crate) fn values<T: FromStr>(&mut self, name: &str) -> Result<Option<Vec<T>>> {
        let Some(list) = self.value::<String>(name)? else { return Ok(None) };
        list.split(',').map(|word| parsed(name, word)).collect::<Result<_>>().map(Some)
    }

    /// Takes what is left, none of it an option.
    pub(crate) fn rest(self) -> Result<Vec<String>> {
        match self.0.iter().find(|word| word.starts_with('-')) {
            Some(unknown) => Err(Usage::error(format!("no option `{unknown}`"))),
            None => Ok(self.0),
        }
    }

    /// Makes sure that nothing is left.
    pub(crate) fn end(self) -> Result<()> {
        match self.rest()?.first() {
            Some(word) => Err(Usage::error(format!("`{word}` is too much"))),
            None => Ok(()),
        }
    }
}

fn parsed<T: FromStr>(name: &str, word: &str) -> Result<T> {
    word.trim().parse().map_err(|_| Usage::error(format!("`{name}` cannot be `{word}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken_from_anywhere_and_words_are_left() {
        let mut line = arguments("chain --peers --count 5 fanout --seeds 1,2");

        assert!(line.flag("--peers"));
        assert_eq!(line.value::<usize>("--count").unwrap(), Some(5));
        assert_eq!(line.values::<u64>("--seeds").unwrap(), Some(vec![1, 2]));

        assert_eq!(line.rest().unwrap(), ["chain", "fanout"]);
    }

    #[test]
    fn what_nobody_takes_is_a_usage_error() {
        assert!(arguments("--quick").end().unwrap_err().is::<Usage>());
        assert!(arguments("word").end().unwrap_err().is::<Usage>());
        assert!(arguments("--count").value::<usize>("--count").unwrap_err().is::<Usage>());
        assert!(arguments("--count x").value::<usize>("--count").unwrap_err().is::<Usage>());
    }
}
