//! Sizes that every run and every item pays for.

use std::mem::size_of;

use flowstone_core::{Action, Context, Flow, NodeError, Outcome, Result, RunError, driver::Position};

#[test]
fn a_context_fits_a_cache_line() {
    assert!(size_of::<Context>() <= 64, "{}", size_of::<Context>());
}

#[test]
fn the_result_of_a_run_is_small() {
    assert!(size_of::<Result<Outcome, RunError>>() <= 96, "{}", size_of::<Result<Outcome, RunError>>());
}

#[test]
fn an_error_of_a_node_is_a_pointer() {
    assert_eq!(size_of::<NodeError>(), size_of::<usize>());
    assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
}

#[test]
fn a_position_is_four_bytes() {
    assert_eq!(size_of::<Position>(), 4);
}

#[test]
fn an_action_is_a_string_or_a_constant() {
    assert_eq!(size_of::<Action>(), size_of::<String>());
}

#[test]
fn a_flow_is_a_pointer() {
    assert_eq!(size_of::<Flow<[u8; 4096]>>(), size_of::<usize>());
}
