//! Durations on the command line, in milliseconds.

use std::{num::ParseIntError, time::Duration};

/// Reads a number of milliseconds.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(flowstone_examples::wait::millis("150"), Ok(Duration::from_millis(150)));
/// assert!(flowstone_examples::wait::millis("soon").is_err());
/// ```
///
/// # Errors
///
/// If `text` is not a whole number.
pub fn millis(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_millis)
}
