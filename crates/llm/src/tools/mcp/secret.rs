//! Taking secrets out of a server's words.

/// A shorter text is no secret, and would take letters out of words.
const SHORTEST: usize = 6;

/// The text that takes the place of a secret.
const HIDDEN: &str = "***";

/// Takes secrets out of a text, also what is left of one where the text was cut: before a `…`, and at its beginning.
pub(super) fn without<'a>(mut text: String, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let mut secrets: Vec<&str> = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST).collect();
    // One may be a part of another, whose rest would stay.
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        if text.contains(secret) {
            text = text.replace(secret, HIDDEN);
        }
        let ends = secret.char_indices().map(|(at, _)| at);
        for end in ends.clone().filter(|&end| end >= SHORTEST).rev() {
            let cut = format!("{}…", &secret[..end]);
            if text.contains(&cut) {
                text = text.replace(&cut, &format!("{HIDDEN}…"));
            }
        }
        let rest = ends.skip(1).map(|begin| &secret[begin..]).take_while(|rest| rest.len() >= SHORTEST);
        if let Some(rest) = rest.into_iter().find_map(|rest| text.strip_prefix(rest)) {
            text = format!("{HIDDEN}{rest}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn a_secret_is_taken_out_wherever_the_text_was_cut() {
        for (text, expected) in [
            ("the key is secret-key", "the key is ***"),
            ("secret-key-2 and secret-key", "*** and ***"),
            ("the key is secret-k…; the key is secret-key-…", "the key is ***…; the key is ***…"),
            ("ret-key was printed", "*** was printed"),
            ("a short one stays", "a short one stays"),
        ] {
            assert_eq!(without(text.to_owned(), ["short", "secret-key", "secret-key-2"]), expected);
        }
    }
}
