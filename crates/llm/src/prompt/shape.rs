//! Which fields a type has, without a value of it: it is deserialized from a probe, which sees the fields that it asks
//! for.
//!
//! A derived `Deserialize` names the fields of its struct before it reads one. The probe answers each question with
//! something that should do (an empty text, zero, nothing); where a type refuses it, the probe tries the next answer in
//! another pass, and in the end leaves that field out. What it could not see is [`Shape::Any`].
//!
//! **Invariant:** it ends: passes, depth and steps are bounded, whatever the type.

use serde::de::DeserializeOwned;

use self::node::{Kind, Node, Pass};

mod node;
mod probe;

/// The most passes over a type: one for each answer that it refuses.
const PASSES: usize = 200;

/// The shape of a value, as far as it is known before there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing.
    Any,
    /// A list of such values.
    List(Box<Self>),
    /// A struct with these fields, and no others.
    Struct {
        /// The name of the type; empty for what the engine makes up.
        name: &'static str,
        /// In the order of the type.
        fields: Vec<(&'static str, Self)>,
    },
}

impl Shape {
    /// Finds the shape of a type.
    pub(super) fn of<T: DeserializeOwned>() -> Self {
        let mut root = Node::default();
        for _ in 0..PASSES {
            let pass = Pass::default();
            let done = T::deserialize(pass.probe(&mut root)).is_ok();
            if done || !pass.learned() {
                break;
            }
        }
        Self::from(root)
    }

    /// The shape of a struct of one field.
    pub(super) fn named(field: &'static str, shape: Self) -> Self {
        Self::Struct { name: "", fields: vec![(field, shape)] }
    }

    /// The shape of what is in it, if it is a list.
    pub(super) fn element(&self) -> &Self {
        static ANY: Shape = Shape::Any;
        if let Self::List(element) = self { element } else { &ANY }
    }

    /// Says which fields there are.
    pub(super) fn list(fields: &[(&'static str, Self)]) -> String {
        const MOST: usize = 10;
        let names: Vec<_> = fields.iter().take(MOST).map(|(name, _)| format!("`{name}`")).collect();
        match (names.len(), fields.len()) {
            (0, _) => "it has no fields".to_owned(),
            (shown, all) if shown < all => format!("it has {} and {} more", names.join(", "), all - shown),
            _ => format!("it has {}", names.join(", ")),
        }
    }
}

impl From<Node> for Shape {
    fn from(node: Node) -> Self {
        match node.kind {
            Kind::Any => Self::Any,
            Kind::Option(some) => Self::from(*some),
            Kind::List(element) => Self::List(Box::new(Self::from(*element))),
            Kind::Struct { name, fields } => {
                let fields = fields.into_iter().map(|field| (field.name, Self::from(field.node))).collect();
                Self::Struct { name, fields }
            }
        }
    }
}
