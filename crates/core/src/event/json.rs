//! How times and durations of events are written as JSON: as the command line shows them, and in a unit that the key names.

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

/// A time in milliseconds since 1970, as a date and a time of day (the algorithm of Howard Hinnant's `civil_from_days`).
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
    use super::rfc_3339;

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
