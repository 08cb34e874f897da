//! The cost of a change, in bytes and in time: the table of decision 0006.
//!
//! `cargo test --release -p flowstone-durable figures -- --nocapture` prints it.

use std::time::Instant;

use super::{super::full, Kind, chat, delta, unfold};

#[test]
fn figures_of_a_change() {
    let changes = [
        ("300 B, counter", 12, chat(12, 1), chat(13, 1)),
        ("4 KiB, counter", 12, chat(12, 17), chat(13, 17)),
        ("chat, counter", 12, chat(12, 50), chat(13, 50)),
        ("chat, message", 200, chat(12, 50), chat(12, 51)),
        ("chat, counter and message", 200, chat(12, 50), chat(13, 51)),
        ("1 MB, counter", 12, chat(12, 4_500), chat(13, 4_500)),
        ("1 MB, counter and message", 300, chat(12, 4_500), chat(13, 4_501)),
    ];

    eprintln!("change                     |   state |   full     µs |  delta     µs | unfold µs");
    for (name, most, old, new) in changes {
        let (whole, packing) = clocked(|| full(&new));
        let (delta, writing) = clocked(|| delta::write(&old, &new).unwrap());
        let first = full(&old);
        let (read, reading) = clocked(|| unfold([(Kind::Full, &first.body[..]), (Kind::Delta, &delta)]).unwrap());

        let (state, full, size) = (new.len(), whole.body.len(), delta.len());
        eprintln!("{name:26} | {state:7} | {full:6} {packing:6.1} | {size:6} {writing:6.1} | {reading:9.1}");
        assert!(read == new && delta.len() <= most, "{name}: {size} bytes");
    }
}

/// The result and the microseconds of one call, as an average over ten milliseconds.
fn clocked<T>(mut call: impl FnMut() -> T) -> (T, f64) {
    let mut result = call();
    let (start, mut calls) = (Instant::now(), 0);
    while start.elapsed().as_millis() < 10 {
        result = call();
        calls += 1;
    }
    (result, start.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}
