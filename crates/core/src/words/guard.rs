//! The guard around all code that is not the engine's: nodes, closures, codecs, listeners, clocks.
//!
//! ```text
//! a panic in a visit                 ─▶ an error of its phase
//! in a listener, a clock             ─▶ kept with the run, which stops before its next visit
//! in the text of an error, a drop    ─▶ said in place of the text; dropped
//! ```
//!
//! **Invariant:** no panic of a user's code goes through a driver. The run ends in a [`RunError`](crate::RunError) that
//! says where.

use std::{
    any::Any,
    error::Error,
    fmt::{self, Display, Write},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context as Polling, Poll},
};

use futures_util::future::BoxFuture;

/// The most bytes of the text of an error that are kept: a screen or two. An error of a service may hold its whole
/// reply.
const TEXT: usize = 4 * 1024;

/// The most causes of an error that are told: an error may be its own cause.
const CAUSES: usize = 64;

/// A panic in code that is not the engine's, caught; found as the source of the error of a phase.
#[derive(Debug, Clone, thiserror::Error)]
#[error("panicked: {message}")]
#[non_exhaustive]
pub struct Panicked {
    /// The message of the panic; of a long text the beginning.
    pub message: String,
}

impl Panicked {
    /// Calls code that is not the caller's own, and makes an error of its panic. For drivers.
    ///
    /// The caller drops anything that the call left half-written.
    ///
    /// # Errors
    ///
    /// If the call panicked.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::driver::Panicked;
    ///
    /// assert_eq!(Panicked::catch(|| 1).ok(), Some(1));
    /// let panicked = Panicked::catch(|| -> u32 { panic!("no {}", 1) }).unwrap_err();
    /// assert_eq!(panicked.to_string(), "panicked: no 1");
    /// ```
    pub fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(call)).map_err(Self::new)
    }

    /// Makes an error of the payload of a panic.
    #[cold]
    #[must_use]
    pub fn new(payload: Box<dyn Any + Send>) -> Self {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(message), _) => text(message),
            (_, Some(message)) => text(message),
            _ => "a panic without a text".to_owned(),
        };
        drop_caught(payload);
        Self { message }
    }
}

/// Drops a value of the user's, whatever its `Drop` does.
pub(crate) fn drop_caught<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // This payload may panic in the same way, and nobody waits for it.
        std::mem::forget(payload);
    }
}

/// Calls code of the user's that returns its own errors.
#[inline]
pub(crate) fn catch<T, E: From<Panicked>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // The state may be half-written after a panic in `post`, as it may be after an error: the run ends either way.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(Panicked::new(payload).into()))
}

pin_project_lite::pin_project! {
    /// A future whose panics are caught.
    pub(crate) struct Catch<F> { #[pin] future: F }
}

impl<F> Catch<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }
}

/// Makes a future of the user's. A panic while it is made is an error of the future.
#[inline]
pub(crate) fn made<'a, T, E>(make: impl FnOnce() -> BoxFuture<'a, Result<T, E>>) -> BoxFuture<'a, Result<T, E>>
where
    T: Send + 'a,
    E: From<Panicked> + Send + 'a,
{
    let failed = |payload| Box::pin(std::future::ready(Err(Panicked::new(payload).into()))) as BoxFuture<'a, _>;
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(failed)
}

impl<T, E: From<Panicked>, F: Future<Output = Result<T, E>>> Future for Catch<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<F::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(polling))) {
            Ok(polled) => polled,
            Err(payload) => Poll::Ready(Err(Panicked::new(payload).into())),
        }
    }
}

/// Returns an error and its causes in one line of bounded length. The end of the line says what is left out. For
/// drivers.
///
/// # Example
///
/// ```
/// use flowstone_core::driver::report;
///
/// let error = std::io::Error::other("x".repeat(10_000));
/// let text = report(&error);
/// assert!(text.len() < 5_000 && text.ends_with("x… (5,904 bytes more)"), "{text}");
/// ```
#[must_use]
pub fn report(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    Bounded::of(|bounded| {
        write!(bounded, "{error}")?;
        causes.take(CAUSES).try_for_each(|cause| write!(bounded, ": {cause}"))
    })
}

/// Writes a value that is not the engine's, in bounded length.
pub(crate) fn text(shown: &(impl Display + ?Sized)) -> String {
    Bounded::of(|bounded| write!(bounded, "{shown}"))
}

/// The beginning of a text, and how much is left out.
#[derive(Default)]
struct Bounded {
    text: String,
    left_out: usize,
}

impl Bounded {
    fn of(write: impl FnOnce(&mut Self) -> fmt::Result) -> String {
        let mut bounded = Self::default();
        match catch_unwind(AssertUnwindSafe(|| write(&mut bounded))) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => bounded.text.push_str("… (its text fails)"),
            Err(payload) => {
                drop_caught(payload);
                bounded.text.push_str("… (its text panics)");
            }
        }
        if bounded.left_out > 0 {
            let more = grouped(bounded.left_out);
            bounded.text.push_str(&format!("… ({more} bytes more)"));
        }
        bounded.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = if self.left_out > 0 { 0 } else { TEXT - self.text.len().min(TEXT) };
        let kept = part.floor_char_boundary(room);
        self.text.push_str(&part[..kept]);
        self.left_out += part.len() - kept;
        Ok(())
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
