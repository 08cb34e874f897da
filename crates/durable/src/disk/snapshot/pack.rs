//! Compression of bytes to a zstd frame and back, with or without a dictionary.
//!
//! A compressor is some hundred kilobytes large and slow to make, so a thread keeps one for all its runs. Only large
//! states get one of their own, with a window and tables of their size.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_frame_content_size};

use super::form::{MAX_STATE, Unreadable};

/// The level without a dictionary: -1 is twice as fast for half as much again, 3 is no smaller.
const LEVEL: i32 = 1;

/// The level with a dictionary: the first whose tables are large enough for a whole dictionary of [`NEAR`] bytes.
const LEVEL_WITH_DICTIONARY: i32 = 2;

/// The number of bytes up to which zstd's usual window and tables see the whole dictionary. With more, they forget its
/// front.
const NEAR: usize = 256 << 10;

/// The largest part of a frame, and the smallest that it may be compressed to, by which a length is judged.
const BLOCK: usize = 128 << 10;
const PACKED_BLOCK: usize = 4;

thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// Compresses `bytes`, which may refer to `dictionary`. Returns `None` if zstd gets no memory for it.
pub(super) fn pack(bytes: &[u8], dictionary: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    packed.try_reserve_exact(compress_bound(bytes.len())).ok()?;
    if dictionary.len() > NEAR || (bytes.len() > NEAR && !dictionary.is_empty()) {
        pack_far(&mut packed, bytes, dictionary)?;
    } else {
        COMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = CCtx::try_create();
            }
            let compressor = slot.as_mut()?;
            let done = if dictionary.is_empty() {
                compressor.compress(&mut packed, bytes, LEVEL)
            } else {
                compressor.compress_using_dict(&mut packed, bytes, dictionary, LEVEL_WITH_DICTIONARY)
            };
            done.ok()
        })?;
    }
    Some(packed)
}

/// A window over the dictionary and all of `bytes`, and a search for long matches that is as wide.
fn pack_far(packed: &mut Vec<u8>, bytes: &[u8], dictionary: &[u8]) -> Option<usize> {
    let window = (dictionary.len() + bytes.len()).next_power_of_two().trailing_zeros();
    let mut compressor = CCtx::try_create()?;
    compressor.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
    compressor.set_parameter(CParameter::WindowLog(window)).ok()?;
    compressor.set_parameter(CParameter::EnableLongDistanceMatching(true)).ok()?;
    compressor.ref_prefix(dictionary).ok()?;
    compressor.compress2(packed, bytes).ok()
}

/// Decompresses what [`pack`] made with the same dictionary.
///
/// The length that a frame claims is not trusted: no more is allocated than a frame of this size could decompress to.
pub(super) fn unpack(packed: &[u8], dictionary: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let length = get_frame_content_size(packed).ok().flatten().ok_or(Unreadable::Frame)?;
    let length = usize::try_from(length).map_err(|_| Unreadable::Frame)?;
    if length > MAX_STATE.min((packed.len() / PACKED_BLOCK + 1).saturating_mul(BLOCK)) {
        return Err(Unreadable::Frame);
    }

    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Unreadable::Frame)?;
    let unpacked = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = DCtx::try_create();
        }
        slot.as_mut()?.decompress_using_dict(&mut bytes, packed, dictionary).ok()
    });
    if unpacked == Some(length) { Ok(bytes) } else { Err(Unreadable::Frame) }
}
