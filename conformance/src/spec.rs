//! The parts of a spec, and reading one: unknown fields are errors.
//!
//! A spec of which this module makes a [`Spec`] follows the format. Whether a flow may be built from it is for
//! [`build`](mod@crate::build) to say.

use std::{fmt, num::NonZeroU32};

use flowstone::Shared;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::check;

mod names;

pub use names::{ActionMap, ActionName, Name};

/// A whole spec.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The shared value at the start.
    pub shared: Shared,
    /// The parameters of the root flow.
    #[serde(default)]
    pub params: Shared,
    /// The root flow.
    pub flow: Graph,
}

impl Spec {
    /// Reads a spec from its JSON text.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_conformance::spec::Spec;
    ///
    /// let text = r#"{"shared": {}, "flow": {"name": "main", "kind": "flow", "start": "a", "nodes": []}}"#;
    /// assert_eq!(Spec::parse(text)?.flow.name.as_str(), "main");
    ///
    /// let error = Spec::parse(r#"{"shared": {}, "folw": {}}"#).unwrap_err();
    /// assert!(error.to_string().contains("unknown field `folw`"));
    /// # Ok::<(), flowstone_conformance::spec::SpecError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the text is no JSON, or does not follow the format.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let raw: Value = serde_json::from_str(text)?;
        check::numbers(&raw)?;
        let spec: Self = serde_json::from_value(raw)?;
        check::spec(&spec)?;
        Ok(spec)
    }
}

/// The reason why a text is no spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(String);

impl SpecError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

impl From<serde_json::Error> for SpecError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// A flow of leaves and flows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub struct Graph {
    pub name: Name,
    pub kind: GraphKind,
    pub start: String,
    pub nodes: Vec<Element>,
    #[serde(default)]
    pub edges: Vec<Edge>,
    #[serde(default, deserialize_with = "present")]
    pub items: Option<Items>,
    #[serde(default)]
    pub map_action: ActionMap,
}

impl Graph {
    /// Returns this flow and the flows inside it, at every depth.
    #[must_use]
    pub fn graphs(&self) -> Vec<&Self> {
        let inner =
            self.nodes.iter().filter_map(|element| if let Element::Graph(g) = element { Some(g) } else { None });
        std::iter::once(self).chain(inner.flat_map(|graph| graph.graphs())).collect()
    }

    /// Returns the leaves inside this flow, at every depth.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        let elements = self.graphs().into_iter().flat_map(|graph| &graph.nodes);
        elements.filter_map(|element| if let Element::Leaf(leaf) = element { Some(&**leaf) } else { None })
    }

    /// Returns whether a leaf inside this flow writes a key.
    #[must_use]
    pub fn writes(&self, key: &str) -> bool {
        self.leaves().filter_map(|leaf| leaf.post.as_ref()).any(|write| write.key == key)
    }
}

/// An element of a flow: a node with user code, or a flow.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
#[expect(missing_docs, reason = "the variants are named after what they hold")]
pub enum Element {
    Leaf(Box<Leaf>),
    Graph(Box<Graph>),
}

impl Element {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Leaf(leaf) => leaf.name.as_str(),
            Self::Graph(graph) => graph.name.as_str(),
        }
    }
}

impl TryFrom<Value> for Element {
    type Error = serde_json::Error;

    // By hand, since an untagged enum would not say what is wrong with a field.
    fn try_from(raw: Value) -> Result<Self, serde_json::Error> {
        let kind = raw.get("kind").and_then(Value::as_str).unwrap_or_default();
        if kind.ends_with("flow") {
            return serde_json::from_value(raw).map(Self::Graph);
        }
        serde_json::from_value(raw).map(Self::Leaf)
    }
}

/// The kinds of flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the names of PocketFlow's classes")]
pub enum GraphKind {
    Flow,
    AsyncFlow,
    BatchFlow,
    AsyncBatchFlow,
    AsyncParallelBatchFlow,
}

impl GraphKind {
    /// Returns whether the flow runs once per item.
    #[must_use]
    pub fn is_batch(self) -> bool {
        !matches!(self, Self::Flow | Self::AsyncFlow)
    }
}

/// The kinds of leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the names of PocketFlow's classes")]
pub enum LeafKind {
    Node,
    AsyncNode,
    BatchNode,
    AsyncBatchNode,
    AsyncParallelBatchNode,
}

/// A node with user code.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub struct Leaf {
    pub name: Name,
    pub kind: LeafKind,
    #[serde(default = "one")]
    pub attempts: u32,
    #[serde(default)]
    pub wait_ms: u32,
    #[serde(default)]
    pub sleep_ms: Vec<u32>,
    pub prep: Option<Source>,
    #[serde(default)]
    pub exec: Function,
    pub fallback: Option<Fallback>,
    #[serde(default)]
    pub fail: Vec<FailRule>,
    pub post: Option<Write>,
    #[serde(default)]
    pub actions: Vec<ActionName>,
}

/// An edge; names are looked up when the flow is built.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub struct Edge {
    pub from: String,
    #[serde(default)]
    pub action: ActionName,
    pub to: String,
}

/// The items of a batch flow: written out, or a table in the shared value.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub enum Items {
    List(Vec<Shared>),
    Table {
        key: String,
        #[serde(default, deserialize_with = "present")]
        by: Option<String>,
    },
}

/// The place that `prep` reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub enum Source {
    Key {
        key: String,
        #[serde(default)]
        default: Value,
    },
    Param {
        param: String,
        #[serde(default)]
        default: Value,
    },
    All {
        all: Vec<Self>,
    },
}

impl Source {
    /// Reads the value.
    #[must_use]
    pub fn read(&self, shared: &Shared, params: &Shared) -> Value {
        match self {
            Self::Key { key, default } => shared.get(key).unwrap_or(default).clone(),
            Self::Param { param, default } => params.get(param).unwrap_or(default).clone(),
            Self::All { all } => all.iter().map(|part| part.read(shared, params)).collect(),
        }
    }

    /// Returns the keys that are read.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Key { key, .. } => vec![key],
            Self::Param { .. } => Vec::new(),
            Self::All { all } => all.iter().flat_map(Self::keys).collect(),
        }
    }
}

/// The function of `exec`.
// `{}` after the variants without fields, since serde takes unknown fields of a unit variant in silence.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "fn", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub enum Function {
    Identity {},
    Add { k: u32 },
    Mul { k: u32, m: NonZeroU32 },
    Sum {},
    Len {},
    Wrap { before: String, after: String },
    Join { sep: String },
}

impl Default for Function {
    fn default() -> Self {
        Self::Identity {}
    }
}

/// The fallback of `exec` after its last attempt.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are those of the format, which the kit describes")]
pub enum Fallback {
    Value(Value),
    Echo(True),
    Fail(True),
}

/// The only value that some fields may have.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "bool")]
pub struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, &'static str> {
        if value { Ok(Self) } else { Err("the value has to be true") }
    }
}

/// A planned failure; what is absent matches everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub struct FailRule {
    pub phase: FailPhase,
    #[serde(deserialize_with = "present")]
    pub visit: Option<usize>,
    #[serde(deserialize_with = "present")]
    pub index: Option<Vec<usize>>,
    #[serde(deserialize_with = "present")]
    pub item: Option<usize>,
    #[serde(deserialize_with = "present")]
    pub attempts: Option<Vec<u32>>,
}

/// The phase that a rule is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the phases of a visit")]
pub enum FailPhase {
    Prep,
    #[default]
    Exec,
    Post,
}

/// A write of `post`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of the format, which the kit describes")]
pub struct Write {
    pub op: WriteOp,
    pub key: String,
}

/// The way in which `post` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are those of the format, which the kit describes")]
pub enum WriteOp {
    Set,
    Append,
    Add,
}

fn one() -> u32 {
    1
}

/// Reads a field that may be absent, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
