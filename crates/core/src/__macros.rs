//! Checks of types in the code that `#[node]` and `#[tool]` write. They are no part of the API: the macros of one
//! version go with the checks of that version. See `docs/decisions/0023-a-result-by-another-name-is-refused.md`.
//!
//! A macro sees words, and an alias has any word for a name. So the macro lets the compiler find out what a type is: of
//! two methods with one name, the inherent one comes first, and it is there for that type only.
//!
//! ```text
//! kind_of::<u32>().result()            the trait's method:     Plain
//! kind_of::<Alias<u32>>().result()     the inherent method:    AnotherName, which does not compile
//! ```

use std::{convert::Infallible, future::Future, marker::PhantomData};

/// A result, whatever it is called, and the type of its value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has the name of a result, and is none",
    label = "not a `std::result::Result`",
    note = "a return type named `Result` is one of `std`, or an alias of it: give your own type another name"
)]
pub trait Fallible {
    /// The type of its value when nothing failed.
    type Value;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
}

/// Stands for a type whose kind is asked for.
#[derive(Debug)]
pub struct KindOf<T>(PhantomData<fn() -> T>);

/// Asks for the kind of a type.
#[must_use]
pub fn kind_of<T>() -> KindOf<T> {
    KindOf(PhantomData)
}

/// The kind of all types that are nothing special.
#[derive(Debug)]
pub struct Plain;

/// The kind of a result that is not called so.
#[derive(Debug)]
pub struct AnotherName<T, E>(PhantomData<fn() -> (T, E)>);

/// The kind of a future.
#[derive(Debug)]
pub struct NotAwaited<F>(PhantomData<fn() -> F>);

/// The answers for all types; those for some come before.
pub trait Otherwise: Sized {
    /// Says whether it is a result.
    fn result(&self) -> Plain {
        Plain
    }

    /// Says whether it is a future.
    fn future(&self) -> Plain {
        Plain
    }
}

impl<T> Otherwise for KindOf<T> {}

impl<T, E> KindOf<Result<T, E>> {
    /// Says that it is a result.
    #[must_use]
    pub fn result(&self) -> AnotherName<T, E> {
        AnotherName(PhantomData)
    }
}

impl<F: Future> KindOf<F> {
    /// Says that it is a future.
    #[must_use]
    pub fn future(&self) -> NotAwaited<F> {
        NotAwaited(PhantomData)
    }
}

/// Holds for every kind but that of a result.
#[diagnostic::on_unimplemented(
    message = "this is a `Result` by another name, whose errors would be values",
    label = "a `Result` by another name",
    note = "write `Result<…>`, or give the alias this name: then an error is tried again, and ends the run"
)]
pub trait NoResult {}

impl NoResult for Plain {}

/// Refuses a result.
pub fn no_result<K: NoResult>(_: K) {}

/// Holds for every kind but that of a future.
#[diagnostic::on_unimplemented(
    message = "this is a future, which nobody would await",
    label = "a future",
    note = "make the method an `async fn`, which returns what the future gives"
)]
pub trait NoFuture {}

impl NoFuture for Plain {}

/// Refuses a future.
pub fn no_future<K: NoFuture>(_: K) {}

/// Holds for one and the same type.
#[diagnostic::on_unimplemented(
    message = "`prep` reads the state `{S}`, and `post` writes `{Self}`: a node has one state",
    label = "another state"
)]
pub trait SameState<S> {}

impl<S> SameState<S> for S {}

/// Refuses two states of one node.
pub fn one_state<W: SameState<S>, S>() {}

/// A value that a function returned.
#[derive(Debug)]
pub struct Returned<T>(pub T);

impl<T, E> Returned<Result<T, E>> {
    /// Gives the result.
    ///
    /// # Errors
    ///
    /// Its own.
    pub fn value(self) -> Result<T, E> {
        self.0
    }
}

/// Makes a result of a value that is none.
pub trait Infallibly {
    /// The type of the value.
    type Value;

    /// Gives the value as a result.
    ///
    /// # Errors
    ///
    /// None.
    fn value(self) -> Result<Self::Value, Infallible>;
}

impl<T> Infallibly for Returned<T> {
    type Value = T;

    fn value(self) -> Result<T, Infallible> {
        Ok(self.0)
    }
}
