//! Names of runs and of nodes.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The path of a node: the names of the flows around it and its own, joined by `/`.
///
/// The flow that is run is not part of it. Inside a batch flow the flow's name carries the number of the child, as in
/// `classes[1]/students[0]/grade`. A path survives a redeploy; positions do not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NodePath(Arc<str>);

impl NodePath {
    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the ways in which this can be the path of a node in a child of a batch flow: the batch flow's path, the
    /// item, and the path from the child on. A name may hold brackets, so there may be several ways.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::NodePath;
    ///
    /// let path = NodePath::from("review[3]/check[0]/approve");
    /// let (review, item, inner) = path.into_child().next().unwrap();
    /// assert_eq!((review.as_str(), item, inner.as_str()), ("review", 3, "check[0]/approve"));
    /// ```
    pub fn into_child(&self) -> impl Iterator<Item = (Self, usize, Self)> {
        self.0.match_indices("]/").filter_map(|(end, _)| {
            let (outer, item) = self.0[..end].rsplit_once('[')?;
            Some((outer.into(), item.parse().ok()?, self.0[end + 2..].into()))
        })
    }
}

/// The name of a run: given by the user, or made up once per process and counted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RunId(Arc<str>);

impl RunId {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($name:ident) => {
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

text!(NodePath);
text!(RunId);

/// A node of a built flow, as a number. It is for drivers, while the process lives; a store keeps the
/// [path](crate::Flow::path).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(u32);

impl Position {
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("invariant: a graph has fewer than 2^32 nodes"))
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}
