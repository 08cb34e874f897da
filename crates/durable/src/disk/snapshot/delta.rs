//! Bodies of snapshots, and the difference between two states.
//!
//! The form of a body says how to read its content:
//!
//! | form | content |
//! |---|---|
//! | [`RAW`] | the state |
//! | [`PACKED`] | the state, compressed |
//! | [`SPLICE`] | how many bytes the two states share at the front and at the end, and those between them |
//! | [`PATCH`] | the same two numbers, and the bytes between them, compressed with the predecessor as dictionary |
//!
//! Numbers are LEB128.

use super::{
    check::check,
    form::{MAX_STATE, Unreadable},
    pack,
};

// Invariant: these numbers never change, since stores hold them.
pub(super) const RAW: u8 = 0;
pub(super) const PACKED: u8 = 1;
pub(super) const SPLICE: u8 = 2;
pub(super) const PATCH: u8 = 3;

/// The size of a change, in bytes, up to which it is stored uncompressed: zstd would save a few dozen bytes, for five
/// times the time.
const SHORT: usize = 100;

/// The length of the predecessor on either side of the change that is part of the dictionary. It holds what the change
/// is likely to resemble, such as the messages before a new one; to load more would cost more than it saves.
const AROUND: usize = 16 << 10;

/// Puts a body together: its form, the check of the state that it leads to, its content.
pub(super) fn body(form: u8, state: &[u8], content: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::with_capacity(5 + content.iter().map(|part| part.len()).sum::<usize>());
    body.push(form);
    body.extend_from_slice(&check(state).to_le_bytes());
    for part in content {
        body.extend_from_slice(part);
    }
    body
}

/// Takes a body apart: the reverse of [`body`].
pub(super) fn open(body: &[u8]) -> Result<(u8, u32, &[u8]), Unreadable> {
    let (head, content) = body.split_first_chunk::<5>().ok_or(Unreadable::Cut)?;
    let [form, a, b, c, d] = *head;
    Ok((form, u32::from_le_bytes([a, b, c, d]), content))
}

/// Returns the body of the delta from `old` to `new`; `None` if they are the same.
pub(super) fn write(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let front = shared_front(old, new);
    if front == old.len() && front == new.len() {
        return None;
    }
    let end = shared_end(&old[front..], &new[front..]);
    let middle = &new[front..new.len() - end];

    let mut numbers = Vec::with_capacity(10);
    put(&mut numbers, front);
    put(&mut numbers, end);

    if middle.len() > SHORT {
        let packed = pack::pack(middle, dictionary(old, front, end));
        if let Some(packed) = packed.filter(|packed| packed.len() < middle.len()) {
            return Some(body(PATCH, new, &[&numbers, &packed]));
        }
    }
    Some(body(SPLICE, new, &[&numbers, middle]))
}

/// Returns the state that a [`SPLICE`] makes of its predecessor.
pub(super) fn splice(old: Vec<u8>, content: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let (front, end, middle) = cut(&old, content)?;
    replace(old, front, end, middle)
}

/// Returns the state that a [`PATCH`] makes of its predecessor.
pub(super) fn patch(old: Vec<u8>, content: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let (front, end, packed) = cut(&old, content)?;
    let middle = pack::unpack(packed, dictionary(&old, front, end))?;
    replace(old, front, end, &middle)
}

/// Replaces the bytes between front and end by `middle`, and moves as few bytes as possible.
fn replace(mut old: Vec<u8>, front: usize, end: usize, middle: &[u8]) -> Result<Vec<u8>, Unreadable> {
    if front + middle.len() + end > MAX_STATE {
        return Err(Unreadable::Cut);
    }
    let differs = front..old.len() - end;
    if differs.len() == middle.len() {
        old[differs].copy_from_slice(middle);
    } else {
        old.splice(differs, middle.iter().copied());
    }
    Ok(old)
}

/// Returns the two numbers before a delta's content, checked against `old`, and the rest of the body.
fn cut<'a>(old: &[u8], content: &'a [u8]) -> Result<(usize, usize, &'a [u8]), Unreadable> {
    let (front, content) = take(content)?;
    let (end, content) = take(content)?;
    if front.checked_add(end).is_some_and(|shared| shared <= old.len()) {
        Ok((front, end, content))
    } else {
        Err(Unreadable::Cut)
    }
}

/// Returns the part of the predecessor that serves as the dictionary of a change: the bytes that it replaces, and those
/// around them.
fn dictionary(old: &[u8], front: usize, end: usize) -> &[u8] {
    &old[front.saturating_sub(AROUND)..(old.len() - end).saturating_add(AROUND).min(old.len())]
}

/// Counts the bytes that are the same at the front of both: blocks by `memcmp`, which makes it fast, then bytes.
fn shared_front(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 128;
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    blocks + a[blocks..].iter().zip(&b[blocks..]).take_while(|(a, b)| a == b).count()
}

fn shared_end(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 128;
    let blocks = a.rchunks_exact(BLOCK).zip(b.rchunks_exact(BLOCK)).take_while(|(a, b)| a == b).count() * BLOCK;
    let (a, b) = (&a[..a.len() - blocks], &b[..b.len() - blocks]);
    blocks + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &[u8]) -> Result<(usize, &[u8]), Unreadable> {
    let mut number = 0;
    // Five bytes hold any number up to `MAX_STATE`.
    for (i, byte) in bytes.iter().enumerate().take(5) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((usize::try_from(number).map_err(|_| Unreadable::Cut)?, &bytes[i + 1..]));
        }
    }
    Err(Unreadable::Cut)
}
