//! Programs that do not compile, and the compiler's messages: each has to tell what to write.
//!
//! `TRYBUILD=overwrite cargo test -p flowstone-ui` writes the messages anew. They are those of the compiler that
//! `rust-version` names, with the features that the manifest of this package asks for: the compiler's words for a type
//! depend on the crates at hand.

#[test]
fn what_is_wrong_does_not_compile_and_says_why() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    cases.compile_fail("tests/ui/llm/*.rs");
}
