//! The versions of the program: the changes of each life of a seed's store since the one before.
//!
//! Nodes get other names, with `FlowOptions::rename` for the old ones, and so do flows, with
//! `FlowOptions::renamed_from`; the lists of batches come in another order, and with other items; one flow may be
//! missing for a life; in some lives the pool for blocking work is full for a while, in some not all runs may be at
//! work at once. Comparisons with a run in memory go by the names of the first version.

use std::collections::BTreeSet;

use flowstone::durable::FlowOptions;

use crate::random::{Random, mix};

/// The mark in the name of a node that was renamed: `work2-g1` was `work2` until the first renaming.
const MARK: &str = "-g";

/// The path under which names of flows are renamed.
const FLOWS: &str = "/flows";

/// A version of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    seed: u64,
    /// The number of times that nodes were renamed so far.
    renamings: u64,
    /// The flow that it lacks.
    pub(crate) lacks: Option<usize>,
    /// The version of the lists that batches have, unless it is the first.
    pub(crate) lists: Option<u64>,
    /// `true` if its pool for blocking work is full for a while.
    pub(crate) full_pool: bool,
    pub(crate) limits: Limits,
    /// `true` if no run kills the process.
    pub(crate) calm: bool,
}

/// Limits of the number of runs that may be at work at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The limit of all flows together.
    pub(crate) store: Option<usize>,
    /// A flow, by its number, and its limit.
    pub(crate) flow: Option<(usize, usize)>,
}

impl Limits {
    fn of(seed: u64, life: usize, flows: usize) -> Self {
        let mut random = Random::of(seed.wrapping_add(life as u64), "limits");
        let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap_or_default();
        let store = (below(4) == 0).then(|| 4 + below(40));
        let flow = (below(4) == 0).then(|| (below(flows), 1 + below(8)));
        Self { store, flow }
    }
}

impl Version {
    /// Returns the program of a life of a seed; each renames some nodes and flows, or none. Only the first `flows`
    /// flows may be missing.
    pub(crate) fn of(seed: u64, life: usize, flows: usize) -> Self {
        let mut random = Random::of(seed, "versions");
        let (mut renamings, mut lacks, mut lists, mut full_pool) = (0, None, None, false);
        for _ in 0..life {
            renamings += random.below(2);
            let flow = usize::try_from(random.below(flows as u64)).unwrap_or_default();
            lacks = random.one_in(3).then_some(flow);
            full_pool = random.one_in(4);
            if random.one_in(2) {
                lists = Some(random.next());
            }
        }
        let mut limits = Limits::of(seed, life, flows);
        if full_pool {
            // A run that waits for the pool keeps its place, so in the end all runs would wait for the pool.
            limits.store = None;
        }
        Self { seed, renamings, lacks, lists, full_pool, limits, calm: false }
    }

    /// Returns the first version, whose names are those of all comparisons.
    pub(crate) fn first(seed: u64) -> Self {
        Self { seed, renamings: 0, lacks: None, lists: None, full_pool: false, limits: Limits::default(), calm: false }
    }

    /// Returns the same version with all flows.
    pub(crate) fn whole(self) -> Self {
        Self { lacks: None, ..self }
    }

    /// Returns the same version, but no run kills the process.
    pub(crate) fn calm(self) -> Self {
        Self { calm: true, ..self }
    }

    /// Returns the name of a flow, given its name in the first version.
    pub(crate) fn flow(self, name: &str) -> String {
        self.name(FLOWS, name)
    }

    /// Returns the former names of a flow, without its present one.
    pub(crate) fn flow_before(self, name: &str) -> BTreeSet<String> {
        let before = (0..self.renamings).map(|renamings| Self { renamings, ..self }.flow(name));
        before.filter(|before| *before != self.flow(name)).collect()
    }

    /// Returns the name of a node, given its name in the first version and the path around it.
    fn name(self, outer: &str, name: &str) -> String {
        let of = outer.bytes().chain(name.bytes()).fold(mix(self.seed), |hash, byte| mix(hash ^ u64::from(byte)));
        let last = (1..=self.renamings).rev().find(|renaming| mix(of ^ renaming).is_multiple_of(3));
        last.map_or_else(|| name.to_owned(), |renaming| format!("{name}{MARK}{renaming}"))
    }
}

/// Gives the nodes of a flow their names, and notes the paths of its leaves.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    version: Version,
    /// The path of nodes around the flow, with the names of the first version.
    path: Vec<String>,
    /// `true` if it is the flow of children: their nodes keep their names, since `rename` is for those of runs.
    fixed: bool,
    /// `true` if it is in a batch flow that is not journaled, so that nothing in it is kept.
    pub(crate) unkept: bool,
}

impl Names {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, path: Vec::new(), fixed: false, unkept: false }
    }

    /// Returns the names in a flow that is a node of this one.
    pub(crate) fn inside(&self, name: &str) -> Self {
        let mut inner = self.clone();
        inner.path.push(name.to_owned());
        inner
    }

    /// Returns the names in a flow of children.
    pub(crate) fn of_children(&self, kept: bool) -> Self {
        Self { fixed: true, unkept: self.unkept || !kept, ..self.clone() }
    }

    pub(crate) fn is_of_children(&self) -> bool {
        self.fixed
    }

    /// Returns the name of a node in this version.
    pub(crate) fn now(&self, name: &str) -> String {
        if self.fixed { name.to_owned() } else { self.version.name(&self.path.join("/"), name) }
    }

    /// Adds the former names of a node to the options of its flow.
    pub(crate) fn rename(&self, options: FlowOptions, name: &str) -> FlowOptions {
        let now = self.whole_path(name, self.version);
        let mut options = options;
        for renamings in 0..self.version.renamings {
            let before = self.whole_path(name, Version { renamings, ..self.version });
            if before != now {
                options = options.rename(before, now.clone());
            }
        }
        options
    }

    fn whole_path(&self, name: &str, version: Version) -> String {
        let mut outer = Vec::new();
        let mut names = Vec::new();
        for name in self.path.iter().map(String::as_str).chain([name]) {
            names.push(version.name(&outer.join("/"), name));
            outer.push(name);
        }
        names.join("/")
    }
}

/// Returns a path, a key or an id with the names of the first version.
pub(crate) fn plain(text: &str) -> String {
    let mut parts = text.split(MARK);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.strip_prefix(|letter: char| letter.is_ascii_digit()) {
            Some(rest) => plain.push_str(rest),
            None => plain.extend([MARK, part]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_renamed_and_found_again() {
        let version = Version { renamings: 5, ..Version::first(1) };
        let names = Names::new(version).inside("nested1");

        let renamed: Vec<String> = (0..9).map(|at| names.now(&format!("work{at}"))).collect();

        assert!(renamed.iter().any(|name| name.contains(MARK)), "{renamed:?}");
        assert!(renamed.iter().enumerate().all(|(at, name)| plain(name) == format!("work{at}")), "{renamed:?}");
        assert_eq!(plain("run3-fork:4:nested1-g2/kept2by5-g1[2]"), "run3-fork:4:nested1/kept2by5[2]");
    }
}
