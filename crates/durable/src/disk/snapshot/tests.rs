//! Chains there and back, and damaged in every way.

mod figures;

use proptest::{prelude::*, sample::Index};

use super::{Chain, Kind, MAX_STATE, Snapshot, TooLarge, Unfolding, Unreadable, check::check, delta, pack};

use crate::words::store_options::FULL_EVERY;

#[test]
fn an_unchanged_state_costs_no_body() {
    let mut chain = Chain::starting(FULL_EVERY);
    chain.next(chat(1, 50)).unwrap();

    let snapshot = chain.next(chat(1, 50)).unwrap();

    assert_eq!(snapshot, Snapshot { kind: Kind::Same, body: Vec::new() });
}

#[test]
fn a_counter_in_a_chat_state_costs_under_90_bytes_a_visit() {
    let first = chat(1_000, 50);
    let turn = |turn: usize| [b"{\"turn\":", turn.to_string().as_bytes(), &first[12..]].concat();

    let (bytes, snapshots) = stored((0..1_000).map(turn));

    assert!(bytes / 1_000 < 90, "{} bytes a visit", bytes / 1_000);
    assert_eq!(read(&snapshots), Ok(turn(999)));
}

#[test]
fn a_message_in_a_chat_state_costs_about_the_message() {
    let message = chat(0, 51).len() - chat(0, 50).len();

    let (bytes, snapshots) = stored((50..250).map(|messages| chat(messages, messages)));

    assert!(bytes / 200 < message * 5 / 4, "{} bytes a visit, {message} a message", bytes / 200);
    assert_eq!(read(&snapshots), Ok(chat(249, 249)));
}

#[test]
fn a_full_snapshot_follows_after_the_number_that_was_set() {
    let (_, snapshots) = stored_every(10, (0..34).map(|turn| chat(turn, 50)));

    let full = snapshots.iter().enumerate().filter(|(_, snapshot)| snapshot.kind == Kind::Full);

    assert_eq!(full.map(|(i, _)| i).collect::<Vec<_>>(), [0, 11, 22, 33]);
}

#[test]
fn a_full_snapshot_follows_when_the_deltas_weigh_four_times_as_much() {
    let (_, snapshots) = stored((50..150).map(|messages| chat(0, messages)));

    let second = snapshots.iter().skip(1).position(|snapshot| snapshot.kind == Kind::Full).unwrap();

    let weight: usize = snapshots[1..=second].iter().map(|snapshot| snapshot.body.len() + 100).sum();
    let full = snapshots[0].body.len();
    assert!(weight > 4 * full && weight < 5 * full, "{weight} after {full}");
}

#[test]
fn a_state_that_changes_as_a_whole_is_stored_full_once_that_is_smaller() {
    let mut chain = Chain::starting(FULL_EVERY);
    chain.next(noise(1, 4_000)).unwrap();

    let snapshot = chain.next(noise(2, 4_000)).unwrap();

    assert_eq!(snapshot.kind, Kind::Full);
    assert_eq!(snapshot.body.len(), 4_005, "raw, with its form and check");
}

#[test]
fn a_chain_goes_on_where_it_was_read() {
    let states: Vec<_> = (0..300).map(|turn| chat(turn, 5)).collect();
    let (_, whole) = stored(states.clone());

    for cut in [1, 2, 128, 129, 130, 250] {
        let from = whole[..cut].iter().rposition(|snapshot| snapshot.kind == Kind::Full).unwrap();

        let mut chain = unfolding(&whole[from..cut]).unwrap().into_chain(FULL_EVERY).unwrap();

        assert_eq!(chain.state(), states[cut - 1]);
        let rest: Vec<_> = states[cut..].iter().map(|state| chain.next(state.clone()).unwrap()).collect();
        assert!(rest == whole[cut..], "restored after {cut}");
    }
}

#[test]
fn a_large_state_that_changes_at_both_ends_costs_little() {
    // Larger than any window that zstd takes by itself, and hardly compressible, so nothing but the distance helps.
    let large = |turn: u8| [&[turn], &noise(7, 30 << 20)[..], &[turn]].concat();

    let (_, snapshots) = stored([large(1), large(2)]);

    assert_eq!(snapshots[1].kind, Kind::Delta);
    assert!(snapshots[1].body.len() < 20_000, "{} bytes", snapshots[1].body.len());
    assert_eq!(read(&snapshots), Ok(large(2)));
}

#[test]
fn a_state_above_the_limit_is_refused_and_the_chain_goes_on() {
    let mut chain = Chain::starting(FULL_EVERY);
    chain.next(chat(1, 1)).unwrap();

    assert_eq!(chain.next(vec![b'1'; MAX_STATE + 1]), Err(TooLarge { bytes: MAX_STATE + 1 }));

    assert_eq!(chain.next(chat(1, 1)).unwrap().kind, Kind::Same);
}

#[test]
fn a_delta_on_another_predecessor_is_noticed() {
    let (_, snapshots) = stored([chat(100, 50), chat(200, 50), chat(201, 50), chat(201, 52)]);

    let without =
        |i: usize| read(snapshots.iter().enumerate().filter(|(at, _)| *at != i).map(|(_, snapshot)| snapshot));

    assert_eq!(without(0), Err(Unreadable::NoFull));
    assert_eq!(without(1), Err(Unreadable::Check));
    assert!(without(2).is_err());
}

#[test]
fn a_body_under_a_wrong_kind_is_refused() {
    let (_, snapshots) = stored([chat(1, 50), chat(2, 50)]);
    let (full, delta) = (&snapshots[0].body[..], &snapshots[1].body[..]);

    assert_eq!(unfold([(Kind::Full, delta)]), Err(Unreadable::Form));
    assert_eq!(unfold([(Kind::Full, full), (Kind::Delta, full)]), Err(Unreadable::Form));
    assert_eq!(unfold([(Kind::Full, full), (Kind::Same, delta)]), Err(Unreadable::Form));
    assert_eq!(unfold([(Kind::Full, full), (Kind::Full, &[])]), Err(Unreadable::Cut));
    assert_eq!(unfold([]), Err(Unreadable::NoFull));
    for kind in [Kind::Same, Kind::Full, Kind::Delta] {
        assert_eq!(Kind::from_code(kind.code()), Ok(kind));
    }
    assert_eq!(Kind::from_code(3), Err(Unreadable::Kind { code: 3 }));
}

#[test]
fn a_length_that_cannot_be_allocates_nothing() {
    let frame = |length: u64, blocks: &[u8]| {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE0]; // one segment, eight bytes of length
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(blocks);
        frame
    };
    let end = [0x01, 0x00, 0x00]; // the last block, raw and empty

    for length in [1, 1 << 30, 1 << 40, u64::MAX - 1, u64::MAX] {
        let body = delta::body(delta::PACKED, b"", &[&frame(length, &end)]);
        assert_eq!(unfold([(Kind::Full, &body[..])]), Err(Unreadable::Frame), "{length}");
    }
    let endless = [0x02, 0x00, 0x10, b'x'].repeat(100_000); // each four bytes are 128 KiB of `x`
    assert_eq!(pack::unpack(&frame(100_000 << 17, &endless), &[]), Err(Unreadable::Frame));

    let numbers = delta::body(delta::SPLICE, b"", &[&[0xff; 10]]);
    let (_, full) = stored([chat(1, 1)]);
    assert_eq!(unfold([(Kind::Full, &full[0].body[..]), (Kind::Delta, &numbers)]), Err(Unreadable::Cut));
}

#[test]
fn the_check_is_the_one_of_zstd_frames() {
    for length in 0..300 {
        let bytes = noise(length, usize::try_from(length).unwrap());
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();

        let frame = compressor.compress(&bytes).unwrap();

        assert_eq!(check(&bytes).to_le_bytes(), frame[frame.len() - 4..], "{length} bytes");
    }
}

/// A change of a state: a part of it, by its place, is replaced by other bytes; or nothing happens.
#[derive(Debug, Clone)]
enum Edit {
    Nothing,
    Replace { at: Index, take: usize, with: Vec<u8> },
    Repeat { at: Index, take: usize, times: usize },
}

fn edit() -> impl Strategy<Value = Edit> {
    let with = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        "[a-z \",:{}]{0,400}".prop_map(String::into_bytes),
        (0_u64..9, 0_usize..3_000).prop_map(|(seed, length)| noise(seed, length)),
    ];
    prop_oneof![
        1 => Just(Edit::Nothing),
        6 => (any::<Index>(), 0_usize..300, with).prop_map(|(at, take, with)| Edit::Replace { at, take, with }),
        2 => (any::<Index>(), 1_usize..500, 1_usize..8).prop_map(|(at, take, times)| Edit::Repeat { at, take, times }),
    ]
}

impl Edit {
    fn apply(&self, state: &mut Vec<u8>) {
        let range = |at: &Index, take: usize| {
            let from = at.index(state.len() + 1);
            from..(from + take).min(state.len())
        };
        match self {
            Self::Nothing => {}
            Self::Replace { at, take, with } => drop(state.splice(range(at, *take), with.iter().copied())),
            Self::Repeat { at, take, times } => {
                let range = range(at, *take);
                let part = state[range.clone()].repeat(*times);
                state.splice(range, part);
            }
        }
    }
}

fn states(edits: &[Vec<Edit>]) -> Vec<Vec<u8>> {
    let mut state = chat(0, 4);
    let mut states = vec![state.clone()];
    for edits in edits {
        edits.iter().for_each(|edit| edit.apply(&mut state));
        states.push(state.clone());
    }
    states
}

fn edits() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    proptest::collection::vec(proptest::collection::vec(edit(), 1..4), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_state_of_a_chain_is_read_as_it_was_written(edits in edits(), every in 1_u32..50) {
        let states = states(&edits);

        let (_, snapshots) = stored_every(every, states.clone());

        for (i, state) in states.iter().enumerate() {
            let from = snapshots[..=i].iter().rposition(|snapshot| snapshot.kind == Kind::Full).unwrap();
            prop_assert_eq!(&read(&snapshots[from..=i]).unwrap(), state);
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_wrong_state(
        edits in edits(), at in any::<Index>(), byte in any::<Index>(), bit in 0_u8..8, cut in any::<bool>(),
    ) {
        let states = states(&edits);
        let (_, mut snapshots) = stored_every(1_000, states.clone());
        let from = snapshots.iter().rposition(|snapshot| snapshot.kind == Kind::Full).unwrap();
        let snapshots = &mut snapshots[from..];
        let at = at.index(snapshots.len());
        let body = &mut snapshots[at].body;
        prop_assume!(!body.is_empty());

        let byte = byte.index(body.len());
        if cut {
            body.truncate(byte);
        } else {
            body[byte] ^= 1 << bit;
        }

        // A bit that zstd does not look at, or one in the check of an earlier snapshot, changes nothing.
        let read = read(&snapshots[..]);
        prop_assert!(read.is_err() || read.as_ref() == Ok(states.last().unwrap()), "a wrong state");
    }

    #[test]
    fn any_bytes_whatever_are_an_error_or_a_state(
        form in 0_u8..5, content in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_i64..4,
    ) {
        let (_, full) = stored([chat(1, 2)]);
        let body = delta::body(form, b"", &[&content]);

        if let Ok(kind) = Kind::from_code(kind) {
            let read = unfold([(Kind::Full, &full[0].body[..]), (kind, &body)]);
            prop_assert!(read.is_err() || read == Ok(Vec::new()));
        }
    }
}

fn stored(states: impl IntoIterator<Item = Vec<u8>>) -> (usize, Vec<Snapshot>) {
    stored_every(FULL_EVERY, states)
}

fn stored_every(every: u32, states: impl IntoIterator<Item = Vec<u8>>) -> (usize, Vec<Snapshot>) {
    let mut chain = Chain::starting(every);
    let snapshots: Vec<_> = states.into_iter().map(|state| chain.next(state).unwrap()).collect();
    (snapshots.iter().map(|snapshot| snapshot.body.len()).sum(), snapshots)
}

fn read<'a>(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> Result<Vec<u8>, Unreadable> {
    Ok(unfolding(snapshots)?.into_chain(FULL_EVERY)?.last)
}

fn unfolding<'a>(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> Result<Unfolding, Unreadable> {
    let mut unfolding = Unfolding::default();
    for Snapshot { kind, body } in snapshots {
        unfolding.push(*kind, body)?;
    }
    Ok(unfolding)
}

fn unfold<'a>(snapshots: impl IntoIterator<Item = (Kind, &'a [u8])>) -> Result<Vec<u8>, Unreadable> {
    let snapshots: Vec<_> = snapshots.into_iter().map(|(kind, body)| Snapshot { kind, body: body.to_vec() }).collect();
    read(&snapshots)
}

/// A chat of so many messages of 200 characters, of words that come again, with a counter at the front.
fn chat(turn: usize, messages: usize) -> Vec<u8> {
    let mut words = Noise(0x5eed);
    let messages: Vec<_> = (0..messages)
        .map(|i| {
            let mut content = String::new();
            while content.len() < 200 {
                content.push_str(&word(words.next() % 2_000));
                content.push(' ');
            }
            content.truncate(200);
            serde_json::json!({ "role": if i % 2 == 0 { "user" } else { "assistant" }, "content": content })
        })
        .collect();
    format!("{{\"turn\":{turn},\"messages\":{}}}", serde_json::to_string(&messages).unwrap()).into_bytes()
}

fn word(number: u64) -> String {
    let mut letters = Noise(number + 1);
    (0..2 + letters.next() % 8).map(|_| char::from(b'a' + (letters.next() % 26) as u8)).collect()
}

/// Bytes that zstd makes no smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = Noise(seed + 1);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| noise.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 29)
    }
}
