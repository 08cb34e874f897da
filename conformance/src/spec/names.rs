//! Names of nodes, and actions in all their spellings.

use std::collections::BTreeMap;

use flowstone::Action;
use serde::Deserialize;

/// The name of a node or a flow: `[a-z][a-z0-9_]*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest) {
            return Ok(Self(name));
        }
        Err(format!("bad name `{name}`: a name is [a-z][a-z0-9_]*"))
    }
}

/// An action in any of its spellings: null, `""` and `"default"` are one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Option<String>")]
pub struct ActionName(pub Action);

impl From<Option<String>> for ActionName {
    fn from(name: Option<String>) -> Self {
        Self(name.map(Action::from).unwrap_or_default())
    }
}

/// The actions of a flow, given its last action.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, ActionName>")]
pub struct ActionMap(BTreeMap<Action, Action>);

impl ActionMap {
    /// Returns whether every action stays what it is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what becomes of an action.
    #[must_use]
    pub fn apply(&self, action: &Action) -> Action {
        self.0.get(action).unwrap_or(action).clone()
    }
}

impl TryFrom<BTreeMap<String, ActionName>> for ActionMap {
    type Error = &'static str;

    fn try_from(raw: BTreeMap<String, ActionName>) -> Result<Self, &'static str> {
        let entries = raw.len();
        let map: BTreeMap<_, _> = raw.into_iter().map(|(from, to)| (Action::from(from), to.0)).collect();
        if map.len() < entries { Err("map_action names the default action twice") } else { Ok(Self(map)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn null_empty_and_default_are_one_action() {
        for spelling in [json!(null), json!(""), json!("default")] {
            assert_eq!(read::<ActionName>(spelling), Ok(ActionName(Action::DEFAULT)));
        }
    }

    #[test]
    fn an_action_without_an_entry_stays_what_it_is() {
        let map: ActionMap = read(json!({"": "done", "no": null})).unwrap();

        let mapped = ["default", "no", "other"].map(|action| map.apply(&Action::from(action)).to_string());

        assert_eq!(mapped, ["done", "default", "other"]);
    }

    #[test]
    fn two_entries_for_the_default_action_are_an_error() {
        let error = read::<ActionMap>(json!({"": "a", "default": "b"})).unwrap_err();

        assert_eq!(error, "map_action names the default action twice");
    }
}
