//! Reads facts about the items of a batch from their keys.

use crate::nodes::always;

/// Returns the most items of a batch that may be under way, by its key. It is the number of all items if the batch, or
/// the batch flow around its run, is not journaled.
pub(super) fn limit(batch: &str) -> usize {
    let names = || batch.split(':').map(|path| path.rsplit('/').next().unwrap_or(path));
    if names().any(|name| name.starts_with("flows")) {
        return usize::MAX;
    }
    let kept = names().next_back().and_then(|name| name.strip_prefix("kept")?.rsplit_once("by"));
    kept.and_then(|(_, limit)| limit.split_once("of")?.0.parse().ok()).unwrap_or(usize::MAX)
}

/// Returns `true` if not every version of a batch has the item with this key.
pub(super) fn is_optional(key: &str) -> bool {
    let item = key.rsplit_once('[').and_then(|(batch, item)| {
        let items: usize = batch.rsplit_once("of")?.1.parse().ok()?;
        Some((item.trim_end_matches(']').parse::<usize>().ok()?, items))
    });
    item.is_some_and(|(item, items)| item >= always(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_not_every_version_has_is_told_by_its_key() {
        assert!(is_optional("run3:4:nested1/kept2by5of7[5]"));
        assert!(!is_optional("run3:4:nested1/kept2by5of7[4]"));
        assert!(!is_optional("run3:4:keptflows1[2]"));
    }

    #[test]
    fn the_limit_of_a_batch_is_read_from_its_key() {
        assert_eq!(limit("run3:4:nested1/kept2by5of7"), 5);
        assert_eq!(limit("run3:4:keptflows1[2]:0:kept2by1of3"), 1);
        assert_eq!(limit("run3:4:batch2by5of7"), usize::MAX);
        assert_eq!(limit("run3:4:nested1/flows1[2]:0:kept2by1of7"), usize::MAX);
        assert_eq!(limit("run3:4:keptflows1"), usize::MAX);
    }
}
