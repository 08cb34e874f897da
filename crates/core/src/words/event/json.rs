//! Times and durations of events as JSON: as the command line shows them, and in a unit that the key names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;

const DAY: i64 = 86_400_000;

/// Writes a time as RFC 3339 in UTC, to the millisecond.
pub(super) fn time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2);
    let at = match at.duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    };
    serializer.serialize_str(&rfc_3339(at))
}

/// Writes a duration in whole milliseconds.
pub(super) fn millis<S: Serializer>(wait: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// A time in milliseconds since 1970, as a date and a time of day (the algorithm of Howard Hinnant's
/// `civil_from_days`).
fn rfc_3339(at: i64) -> String {
    let (days, rest) = (at.div_euclid(DAY) + 719_468, at.rem_euclid(DAY));
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second, milli) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{super::EventKind, rfc_3339};
    use crate::words::usage::Usage;

    /// One event of each kind, in the order of the guide.
    fn every_kind() -> Vec<EventKind> {
        let (text, at) = (String::new, UNIX_EPOCH);
        let kinds = vec![
            EventKind::RunStarted { flow: text(), resumed: true },
            EventKind::VisitStarted { items: None },
            EventKind::AttemptStarted,
            EventKind::Retry { reason: text(), wait: Duration::ZERO },
            EventKind::FellBack { reason: text() },
            EventKind::ItemEnded { error: None, recalled: true },
            EventKind::Emitted { value: 1.into() },
            EventKind::Used { usage: Usage::default() },
            EventKind::Expired,
            EventKind::VisitEnded { action: "a".into() },
            EventKind::VisitFailed { error: text() },
            EventKind::Asked { question: 1.into() },
            EventKind::Missed { events: 1 },
            EventKind::Sleeping { until: at },
            EventKind::Paused { question: 1.into() },
            EventKind::Ended { action: "a".into() },
            EventKind::Failed { phase: None, error: text() },
        ];
        // A new kind does not compile here: it belongs above, and on the page.
        for kind in &kinds {
            match kind {
                EventKind::RunStarted { .. } | EventKind::VisitStarted { .. } | EventKind::AttemptStarted => {}
                EventKind::Retry { .. } | EventKind::FellBack { .. } | EventKind::ItemEnded { .. } => {}
                EventKind::Emitted { .. } | EventKind::Used { .. } | EventKind::Expired => {}
                EventKind::VisitEnded { .. } | EventKind::VisitFailed { .. } | EventKind::Asked { .. } => {}
                EventKind::Missed { .. } | EventKind::Sleeping { .. } | EventKind::Paused { .. } => {}
                EventKind::Ended { .. } | EventKind::Failed { .. } => {}
            }
        }
        kinds
    }

    /// A row of the guide: the kind, and its fields in order.
    fn row(line: &str) -> Option<(String, Vec<String>)> {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let kind = cells.next()?.strip_suffix('`')?.to_owned();
        let fields = cells.next()?;
        let mut names: Vec<String> = fields
            .split(", ")
            .filter_map(|field| Some(field.strip_prefix('`')?.split_once("`:")?.0.to_owned()))
            .collect();
        names.sort();
        Some((kind, names))
    }

    #[test]
    fn the_guide_lists_every_kind_with_its_fields() {
        let page = include_str!("../../../../../docs/guide/events.md");
        let (_, table) = page.split_once("## The kinds").unwrap();
        let (table, _) = table.split_once("## ").unwrap();

        let listed: Vec<_> = table.lines().filter(|line| !line.starts_with("| `event`")).filter_map(row).collect();

        let sent = every_kind().into_iter().map(|kind| {
            let json = serde_json::to_value(kind).unwrap();
            let json = json.as_object().unwrap();
            let mut names: Vec<String> = json.keys().filter(|key| *key != "event").cloned().collect();
            names.sort();
            (json["event"].as_str().unwrap().to_owned(), names)
        });
        assert_eq!(listed, sent.collect::<Vec<_>>());
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let times = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_796_057_599_000, "2026-11-30T16:53:19.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (at, shown) in times {
            assert_eq!(rfc_3339(at), shown);
        }
    }
}
