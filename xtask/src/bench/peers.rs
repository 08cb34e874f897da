//! Other engines at the same work: the programs in `bench/peers/`, each a process of its own, in turn.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Case, Comparison, Cost, Ours, json_line};
use crate::{
    run::{build_release, cargo, metadata, shown_output},
    venv,
};

const ROUNDS: usize = 5;

/// Each peer with the cases that it can express; its program says why it lacks the others.
const PYTHON: [(&str, &[&str]); 2] = [
    ("pocketflow", &["chain", "async-chain", "concurrent", "fanout"]),
    (
        "langgraph",
        &[
            "chain",
            "async-chain",
            "concurrent",
            "fanout",
            "fanout-100",
            "durable-chain",
            "durable-many",
            "durable-many-chats",
        ],
    ),
];
const RUST: (&str, &[&str]) = ("graph-flow", &["async-chain", "concurrent", "fanout"]);

/// A peer's program, ready to run.
pub(super) struct Peer {
    name: &'static str,
    cases: &'static [&'static str],
    program: PathBuf,
    script: Option<PathBuf>,
}

/// A peer's cost of a case beside ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Duel {
    pub(super) case: Case,
    pub(super) peer: &'static str,
    pub(super) n: u64,
    pub(super) theirs: Cost,
    pub(super) our_n: u64,
    pub(super) ours: Cost,
}

/// Installs and builds all peers.
pub(super) fn build(root: &Path) -> Result<Vec<Peer>> {
    let folder = root.join("bench/peers");
    let mut peers = Vec::new();
    for (name, cases) in PYTHON {
        let path = folder.join(name).join("requirements.txt");
        let requirements = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let program = venv::python(root, name, &requirements)?;
        peers.push(Peer { name, cases, program, script: Some(folder.join(name).join("bench.py")) });
    }

    let (name, cases) = RUST;
    let about = metadata(root)?;
    let target = about.get("target_directory").and_then(|folder| folder.as_str());
    let target = Path::new(target.context("`cargo metadata` names no target folder")?).join("peers");
    let mut build = cargo(root);
    build.args(["build", "--locked", "--manifest-path"]).arg(folder.join(name).join("Cargo.toml"));
    let program = build_release(build.arg("--target-dir").arg(target))?;
    peers.push(Peer { name, cases, program, script: None });
    Ok(peers)
}

/// Runs all peers that have the case, round by round, and Flowstone at their sizes where size matters.
pub(super) fn compare(peers: &[Peer], ours: &Ours, comparison: &Comparison) -> Result<Vec<Duel>> {
    let case = comparison.case;
    let peers: Vec<&Peer> = peers.iter().filter(|peer| peer.cases.contains(&case.name)).collect();
    let mut rounds: Vec<Vec<(u64, Cost)>> = vec![Vec::new(); peers.len()];
    for _ in 0..ROUNDS {
        for (peer, lines) in peers.iter().zip(&mut rounds) {
            lines.push(peer.run(case)?);
        }
    }

    // The cost of a step is the same in a long chain and in a short one; the wall time of a wait is shared by all
    // that wait at once, so that only equal numbers compare.
    let mut at_size = BTreeMap::from([(comparison.n, comparison.ours)]);
    let mut duels = Vec::new();
    for (peer, lines) in peers.iter().zip(&rounds) {
        let (n, theirs) = median(lines);
        let our_n = if case.waits { n } else { comparison.n };
        let ours = match at_size.entry(our_n) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(ours.compare(case, Some(our_n))?.ours),
        };
        duels.push(Duel { case, peer: peer.name, n, theirs, our_n, ours });
    }
    Ok(duels)
}

impl Peer {
    fn run(&self, case: Case) -> Result<(u64, Cost)> {
        let mut command = Command::new(&self.program);
        command.env("PYTHONDONTWRITEBYTECODE", "1").args(&self.script).arg(case.name);
        let line = json_line(&shown_output(&mut command)?)?;
        let read = || Some((line.get("n")?.as_u64()?, Cost::read(&line)?));
        read().with_context(|| format!("{} printed something unknown: {line}", self.name))
    }
}

/// The median of each figure by itself.
fn median(rounds: &[(u64, Cost)]) -> (u64, Cost) {
    let middle = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(|(_, cost)| of(cost)).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (n, first) = rounds[0];
    let bytes = first.bytes.map(|_| middle(|cost| cost.bytes.unwrap_or_default()));
    (n, Cost { wall: middle(|cost| cost.wall), cpu: middle(|cost| cost.cpu), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let round = |wall: f64, cpu: f64| (10, Cost { wall, cpu, bytes: Some(wall) });

        let (n, cost) = median(&[round(1.0, 9.0), round(3.0, 8.0), round(2.0, 7.0)]);

        assert_eq!((n, cost), (10, Cost { wall: 2.0, cpu: 8.0, bytes: Some(2.0) }));
    }
}
