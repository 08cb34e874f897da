//! The description of a flow that a store keeps: its graph, its pictures, and the fingerprint of its version.

use std::sync::Arc;

use flowstone_core::{AsyncFlow, Label, State, driver::storable};

use crate::{
    records::flows::FlowRow,
    words::{error::OpenError, flow_options::FlowOptions},
};

/// Describes a flow for the store.
pub(crate) fn describe<S: State, X: Label>(
    flow: &AsyncFlow<S, X>,
    options: &FlowOptions,
) -> Result<FlowRow, OpenError> {
    let too_deep = |source| OpenError::FlowTooDeep { flow: flow.name().to_owned(), source: Arc::new(source) };
    let mut graph = storable(&flow.to_json()).map_err(too_deep)?;
    // The keys are sorted, since any package of the build may switch serde_json to the order of insertion.
    graph.sort_all_objects();
    let graph = graph.to_string();
    Ok(FlowRow {
        name: flow.name().to_owned(),
        before: options.before.clone(),
        renamed: options.renamed.to_json(),
        fingerprint: fingerprint(graph.as_bytes()),
        graph,
        mermaid: flow.to_mermaid(),
        dot: flow.to_dot(),
    })
}

/// Returns the FNV-1a hash of 64 bits (Fowler, Noll and Vo), which tells versions of a flow apart and is the same on
/// every machine.
fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
