//! Actions: the values that `post` returns, and the labels of edges.
//!
//! A node's action is a type that implements [`Label`]: usually an enum with `#[derive(Action)]`, `()` where
//! there is nothing to choose, or [`Action`] where the labels are known at run time only.
//!
//! **Invariant:** an [`Action`] is never empty; the empty string is the default action.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// The name of an action: a value that `post` returned, and the label of an edge.
///
/// It is also a [`Label`] type by itself, for nodes whose actions are strings. The empty string and
/// [`Action::DEFAULT`] are one action, as in PocketFlow.
///
/// # Example
///
/// ```
/// use flowstone_core::Action;
///
/// assert_eq!(Action::from("again").as_str(), "again");
/// assert_eq!(Action::from(""), Action::DEFAULT);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Action(Cow<'static, str>);

impl Action {
    /// The action of a node that names none: `default`.
    pub const DEFAULT: Self = Self(Cow::Borrowed("default"));

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Action {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<&'static str> for Action {
    fn from(name: &'static str) -> Self {
        if name.is_empty() { Self::DEFAULT } else { Self(Cow::Borrowed(name)) }
    }
}

impl From<String> for Action {
    fn from(name: String) -> Self {
        if name.is_empty() { Self::DEFAULT } else { Self(Cow::Owned(name)) }
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.0.into_owned()
    }
}

impl PartialEq<str> for Action {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Action {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// The action type of a node, with the labels that the node can return.
///
/// Derive it for an enum without fields with `#[derive(Action)]`. A type with a closed set of labels lists them in
/// [`NAMES`](Self::NAMES), so that `build()` can tell which one is routed nowhere; an open type ([`Action`]) has an
/// empty list, and its routes are looked up by name at run time.
///
/// # Example
///
/// ```
/// use flowstone_core::{Action, Label};
///
/// enum Verdict { Approve, Reject }
///
/// impl Label for Verdict {
///     const NAMES: &'static [&'static str] = &["approve", "reject"];
///     fn index(&self) -> Option<usize> {
///         Some(match self { Self::Approve => 0, Self::Reject => 1 })
///     }
///     fn action(self) -> Action {
///         Self::NAMES[self.index().unwrap_or(0)].into()
///     }
/// }
///
/// assert_eq!(Verdict::Reject.action(), "reject");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an action",
    label = "not an action",
    note = "a node returns `()`, an enum with `#[derive(Action)]`, or `Action` for string actions"
)]
pub trait Label: Send + 'static {
    /// The names of all labels, by index; empty for an open set.
    const NAMES: &'static [&'static str];

    /// Returns the position of this label in [`NAMES`](Self::NAMES); `None` exactly for an open set.
    fn index(&self) -> Option<usize>;

    /// Returns the action of this label.
    fn action(self) -> Action;
}

impl Label for () {
    const NAMES: &'static [&'static str] = &["default"];

    fn index(&self) -> Option<usize> {
        Some(0)
    }

    fn action(self) -> Action {
        Action::DEFAULT
    }
}

impl Label for Action {
    const NAMES: &'static [&'static str] = &[];

    fn index(&self) -> Option<usize> {
        None
    }

    fn action(self) -> Action {
        self
    }
}

/// An action type whose labels can be chosen by number, each with a description: for somebody outside who picks one,
/// such as a model.
///
/// `#[derive(Action)]` implements it for every enum that it takes; a description is the doc comment of its variant. The
/// numbers are those of [`Label::index`].
///
/// # Example
///
/// ```
/// use flowstone_core::{Action, Choice, Label};
///
/// #[derive(Debug, PartialEq)]
/// enum Verdict { Approve, Reject }
///
/// impl Label for Verdict {
///     const NAMES: &'static [&'static str] = &["approve", "reject"];
///     fn index(&self) -> Option<usize> {
///         Some(match self { Self::Approve => 0, Self::Reject => 1 })
///     }
///     fn action(self) -> Action {
///         Self::NAMES[self.index().unwrap_or(0)].into()
///     }
/// }
///
/// impl Choice for Verdict {
///     const ABOUT: &'static [&'static str] = &["It can be paid.", ""];
///     fn choose(index: usize) -> Option<Self> {
///         [Self::Approve, Self::Reject].into_iter().nth(index)
///     }
/// }
///
/// let picked = Verdict::NAMES.iter().position(|name| *name == "reject").and_then(Verdict::choose);
/// assert_eq!(picked, Some(Verdict::Reject));
/// assert_eq!(Verdict::choose(2), None);
/// ```
#[diagnostic::on_unimplemented(
    message = "the labels of `{Self}` cannot be chosen by number",
    label = "not a closed set of labels",
    note = "an enum with `#[derive(Action)]` can; `()` has nothing to choose, and `Action` has no list to choose from"
)]
pub trait Choice: Label + Sized {
    /// The meaning of each label, by index, in one line; empty where nothing is said. As many as there are
    /// [`NAMES`](Label::NAMES).
    const ABOUT: &'static [&'static str];

    /// Returns the label of an index in [`NAMES`](Label::NAMES); `None` beyond them.
    fn choose(index: usize) -> Option<Self>;
}

/// An action type that has the default action, so that `a >> b` means something.
///
/// Not to be implemented by hand: where `a >> b` does not compile, name the label, as in `a - Found::Yes >> b`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default action",
    label = "this node returns `{Self}`",
    note = "name the label to route: `node - {Self}::Label >> next`"
)]
pub trait HasDefault: Label {}

impl HasDefault for () {}
impl HasDefault for Action {}
