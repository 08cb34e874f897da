//! Former names of nodes: they lead from a node of an older version of a flow to the same node of the present one.
//!
//! **Invariant:** a name that was not renamed leads to itself, and following names always ends.

use flowstone_core::NodePath;

/// Pairs of names: a former name of a node, and the name after it.
///
/// A name followed by `/` and more is the path of a node inside a flow, and is renamed with the flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renamed(Vec<(NodePath, NodePath)>);

impl Renamed {
    pub(crate) fn push(&mut self, from: NodePath, to: NodePath) {
        self.0.push((from, to));
    }

    /// Returns the present name of a node. If it was renamed several times, names are followed until `exists` knows
    /// one.
    pub(crate) fn now(&self, node: &NodePath, exists: impl Fn(&NodePath) -> bool) -> NodePath {
        let mut now = node.clone();
        // Each pair is followed at most once, since names that were exchanged lead in a circle.
        for _ in &self.0 {
            let Some(next) = self.next(&now) else { break };
            now = next;
            if exists(&now) {
                break;
            }
        }
        now
    }

    /// Returns `true` if two names are of the same node, without a look at the present flow.
    pub(crate) fn is_same(&self, one: &NodePath, other: &NodePath) -> bool {
        let reaches = |from: &NodePath, to: &NodePath| from == to || self.now(from, |node| node == to) == *to;
        reaches(one, other) || reaches(other, one)
    }

    fn next(&self, node: &NodePath) -> Option<NodePath> {
        if let Some((_, to)) = self.0.iter().find(|(from, _)| from == node) {
            return Some(to.clone());
        }
        self.0.iter().find_map(|(from, to)| {
            let inside = node.as_str().strip_prefix(from.as_str())?.strip_prefix('/')?;
            Some(format!("{to}/{inside}").into())
        })
    }

    /// Returns the pairs as JSON, if there are any.
    pub(crate) fn to_json(&self) -> Option<String> {
        if self.0.is_empty() { None } else { serde_json::to_string(&self.0).ok() }
    }

    /// Reads the JSON that [`to_json`](Self::to_json) wrote.
    pub(crate) fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(pairs: &[(&str, &str)]) -> Renamed {
        Renamed(pairs.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect())
    }

    #[test]
    fn a_node_that_was_renamed_twice_is_followed() {
        let names = renamed(&[("a", "b"), ("b", "c"), ("pay", "billing/pay")]);
        let now = |node: &str| names.now(&node.into(), |node| ["c", "billing/pay/card"].contains(&node.as_str()));

        assert_eq!([now("a"), now("b"), now("c"), now("x")], ["c", "c", "c", "x"].map(NodePath::from));
        assert_eq!(now("pay/card"), "billing/pay/card");
        assert_eq!(now("payment"), "payment");
        assert!(names.is_same(&"a".into(), &"c".into()) && names.is_same(&"c".into(), &"b".into()));
        assert!(!names.is_same(&"a".into(), &"x".into()));
    }

    #[test]
    fn names_that_were_exchanged_lead_in_no_circle() {
        let names = renamed(&[("a", "b"), ("b", "a")]);

        assert_eq!(names.now(&"a".into(), |_| true), "b");
        assert_eq!(names.now(&"b".into(), |_| true), "a");
        assert_eq!(names.now(&"a".into(), |_| false), "a");
    }
}
