//! The two tables, in Markdown, so that they can go into a page as they are.

use super::{Comparison, Cost, peers::Duel};

/// Flowstone beside the limit of each case.
pub(super) fn limits(comparisons: &[Comparison]) -> String {
    let mut lines = vec![
        "| case | n | wall | limit | ratio | CPU | limit | ratio | bytes | limit |".to_owned(),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for Comparison { case, n, ours, limit } in comparisons {
        lines.push(row(&[
            format!("{}, each {}", case.name, case.unit),
            n.to_string(),
            time(ours.wall, *n),
            time(limit.wall, *n),
            ratio(ours.wall / limit.wall),
            time(ours.cpu, *n),
            time(limit.cpu, *n),
            ratio(ours.cpu / limit.cpu),
            bytes(ours),
            bytes(limit),
        ]));
    }
    lines.join("\n")
}

/// Each peer beside Flowstone.
pub(super) fn peers(duels: &[Duel]) -> String {
    let mut lines = vec![
        "| case | engine | n | wall | Flowstone | ratio | CPU | Flowstone | ratio | bytes | Flowstone |".to_owned(),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for Duel { case, peer, n, theirs, our_n, ours } in duels {
        let each = |cost: f64, n: u64| cost / n as f64;
        lines.push(row(&[
            format!("{}, each {}", case.name, case.unit),
            (*peer).to_owned(),
            n.to_string(),
            time(theirs.wall, *n),
            time(ours.wall, *our_n),
            ratio(each(theirs.wall, *n) / each(ours.wall, *our_n)),
            time(theirs.cpu, *n),
            time(ours.cpu, *our_n),
            ratio(each(theirs.cpu, *n) / each(ours.cpu, *our_n)),
            bytes(theirs),
            bytes(ours),
        ]));
    }
    lines.join("\n")
}

fn row(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// The time of one of the n, in the unit that leaves few digits.
fn time(seconds: f64, n: u64) -> String {
    let ns = seconds / n as f64 * 1e9;
    match ns {
        ..1e3 => format!("{ns:.1} ns"),
        ..1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}

/// A dash where there was nothing to compare with.
fn ratio(of: f64) -> String {
    match of {
        of if !of.is_finite() => "–".to_owned(),
        of if of < 100.0 => format!("{of:.2}"),
        of => format!("{of:.0}"),
    }
}

fn bytes(cost: &Cost) -> String {
    cost.bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{bytes:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::CASES;

    const OURS: Cost = Cost { wall: 2.0, cpu: 1.0, bytes: Some(600.0) };

    #[test]
    fn costs_beside_the_limit_are_those_of_one() {
        let limit = Cost { wall: 1.0, cpu: 0.0, bytes: None };

        let table = limits(&[Comparison { case: CASES[2], n: 1_000_000, ours: OURS, limit }]);

        let last = table.lines().last().unwrap();
        assert_eq!(
            last,
            "| concurrent, each run | 1000000 | 2.00 µs | 1.00 µs | 2.00 | 1.00 µs | 0.0 ns | – | 600 | – |"
        );
    }

    #[test]
    fn peers_of_other_sizes_compare_by_the_cost_of_one() {
        let theirs = Cost { wall: 1.0, cpu: 1.0, bytes: None };

        let duel = Duel { case: CASES[0], peer: "slow", n: 1000, theirs, our_n: 1_000_000_000, ours: OURS };
        let table = peers(&[duel]);

        let last = table.lines().last().unwrap();
        assert_eq!(
            last,
            "| chain, each step | slow | 1000 | 1.00 ms | 2.0 ns | 500000 | 1.00 ms | 1.0 ns | 1000000 | – | 600 |"
        );
    }
}
