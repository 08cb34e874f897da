//! Names that look alike, for "did you mean".

/// Returns the name that is most like this one, if one is like it.
pub(super) fn similar<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|other| (distance(name, other), other)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, other)| *distance <= name.len().max(other.len()) / 3).map(|(_, other)| other)
}

/// Returns how many letters have to be put in, left out, changed or swapped with their neighbour; case does not count.
fn distance(a: &str, b: &str) -> usize {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (lower(a), lower(b));
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn a_slip_is_seen_and_another_word_is_not() {
        let names = || ["topic", "draft", "chat_history"].into_iter();

        let found = ["topci", "Topic", "chathistory", "draf", "author", "x"].map(|name| similar(name, names()));

        assert_eq!(found, [Some("topic"), Some("topic"), Some("chat_history"), Some("draft"), None, None]);
    }
}
