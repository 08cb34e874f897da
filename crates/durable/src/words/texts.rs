//! Texts of errors, as they are kept.

/// The most bytes of a text that are kept.
const MOST: usize = 4 << 10;

/// Returns the beginning of a text, which may be as long as its author likes.
pub(crate) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(bounded("short"), "short");
        assert_eq!(bounded(&"é".repeat(5000)), "é".repeat(2048));
        assert_eq!(bounded(&format!("x{}", "é".repeat(5000))).len(), MOST - 1);
    }
}
