//! What does not compile, and what the compiler says about it: each message has to tell what to write.
//!
//! `TRYBUILD=overwrite cargo test -p flowstone --test ui` writes the messages anew. They are those of the compiler that
//! `rust-version` names; another one may say the same in other words.

#[test]
fn what_is_wrong_does_not_compile_and_says_why() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
