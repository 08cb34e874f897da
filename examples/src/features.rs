//! Features of this package that a program was built without.

/// Says how to build an example for an option that its build lacks.
///
/// # Example
///
/// ```
/// let message = flowstone_examples::features::lacks("weather", "--live", "live");
///
/// assert!(message.ends_with("cargo run --release --features live --example weather -- --live …"));
/// ```
#[must_use]
pub fn lacks(example: &str, option: &str, feature: &str) -> String {
    let command = format!("cargo run --release --features {feature} --example {example} -- {option} …");
    format!("{example}: this build has no {option}, which takes longer to compile; to have it: {command}")
}
