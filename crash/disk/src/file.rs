//! A file with the part of it that is on the disk, and the part of the rest that a power cut leaves.

/// The size of the parts of a write that are each written whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A file: its bytes as of the last sync, and the changes since.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

/// Decides what survives a power cut.
pub(crate) struct Luck<'a> {
    /// Gives a number below the one that it is given.
    random: &'a mut dyn FnMut(u64) -> u64,
    kept: Kept,
    losses: Losses,
}

/// The part of the unsynced changes that survives a power cut.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Nothing,
    All,
    /// Each part survives by itself, in this many of eight cases: the disk has written them in another order.
    Some(u64),
    /// The first changes survive, up to somewhere in the middle of a write: the disk has written them in order.
    First,
}

/// Counts of what power cuts made of other changes and of unsynced parts of writes, of at most 512 bytes each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// They survived, though they were not synced.
    pub kept: u64,
    /// They were lost.
    pub lost: u64,
    /// Writes of which a part survived and a part was lost.
    pub torn: u64,
    /// Changes that were lost and that made a file, deleted it or gave it another size.
    pub names: u64,
}

impl<'a> Luck<'a> {
    pub(crate) fn new(random: &'a mut dyn FnMut(u64) -> u64) -> Self {
        let kept = match random(8) {
            0 => Kept::Nothing,
            1 => Kept::All,
            2 | 3 => Kept::First,
            _ => Kept::Some(1 + random(7)),
        };
        Self { random, kept, losses: Losses::default() }
    }

    pub(crate) fn losses(&self) -> Losses {
        self.losses
    }

    /// Returns the most changes that survive, of this many in a row.
    pub(crate) fn first(&mut self, count: usize) -> usize {
        match self.kept {
            Kept::First => self.below(count + 1),
            _ => count,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.random)(bound as u64)).unwrap_or_default()
    }

    pub(crate) fn keeps(&mut self) -> bool {
        match self.kept {
            Kept::Nothing => false,
            Kept::All | Kept::First => true,
            Kept::Some(eighths) => (self.random)(8) < eighths,
        }
    }

    /// Decides if a change survives that is not a write.
    pub(crate) fn keeps_name(&mut self, possible: bool) -> bool {
        let kept = possible && self.keeps();
        self.losses.names += u64::from(!kept);
        kept
    }

    /// Returns the bytes of a file where it grew and nothing was written: zeros, or old content of the disk.
    fn left(&mut self, count: usize) -> Vec<u8> {
        if (self.random)(2) == 0 {
            return vec![0; count];
        }
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend((self.random)(u64::MAX).to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

impl File {
    pub(crate) fn new(synced: Vec<u8>) -> Self {
        Self { synced, since: Vec::new() }
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.since.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(crate) fn truncate(&mut self, size: u64) {
        self.since.push(Change::Size(usize::try_from(size).unwrap_or(usize::MAX)));
    }

    /// Syncs all changes to the disk.
    pub(crate) fn sync(&mut self) {
        let fill = &mut |count| vec![0; count];
        for change in self.since.drain(..) {
            match change {
                Change::Write { at, bytes } => put(&mut self.synced, at, &bytes, fill),
                Change::Size(size) => resize(&mut self.synced, size, fill),
            }
        }
    }

    /// Returns the content after a power cut: the synced bytes, and as many of the later changes as `luck` decides.
    ///
    /// A write is cut where a sector of the disk ends. Bytes beside a write are as they were.
    pub(crate) fn survivors(&self, luck: &mut Luck<'_>) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let (first, mut size_seen) = (luck.first(self.since.len()), bytes.len());
        for (nth, change) in self.since.iter().enumerate() {
            match change {
                Change::Write { at, bytes: written } => {
                    size_seen = size_seen.max(at + written.len());
                    // If writes reach the disk in order, the last one of them is cut.
                    let parts = match nth.cmp(&first) {
                        std::cmp::Ordering::Less => usize::MAX,
                        std::cmp::Ordering::Equal => luck.below(written.len() / SECTOR + 1),
                        std::cmp::Ordering::Greater => 0,
                    };
                    tear(&mut bytes, (*at, written), parts, luck);
                }
                Change::Size(size) => {
                    size_seen = *size;
                    if luck.keeps_name(nth < first) {
                        resize(&mut bytes, *size, &mut |count| luck.left(count));
                    }
                }
            }
        }
        // The new size of a file may be on the disk before the bytes that were written there.
        if size_seen > bytes.len() && luck.keeps() {
            resize(&mut bytes, size_seen, &mut |count| luck.left(count));
        }
        bytes
    }
}

/// Writes the surviving ones among the first parts of a write.
fn tear(bytes: &mut Vec<u8>, (mut at, mut written): (usize, &[u8]), parts: usize, luck: &mut Luck<'_>) {
    let (mut kept, mut lost) = (0, 0);
    for part in 0.. {
        if written.is_empty() {
            break;
        }
        let (sector, rest) = written.split_at(written.len().min(SECTOR - at % SECTOR));
        if part < parts && luck.keeps() {
            put(bytes, at, sector, &mut |count| luck.left(count));
            kept += 1;
        } else {
            lost += 1;
        }
        (at, written) = (at + sector.len(), rest);
    }
    luck.losses.kept += kept;
    luck.losses.lost += lost;
    luck.losses.torn += u64::from(kept > 0 && lost > 0);
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8], fill: &mut dyn FnMut(usize) -> Vec<u8>) {
    let end = at + bytes.len();
    if end > file.len() {
        // The gap before the bytes is filled; their own place need not be.
        let gap = at.saturating_sub(file.len());
        file.extend(fill(gap));
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

fn resize(file: &mut Vec<u8>, size: usize, fill: &mut dyn FnMut(usize) -> Vec<u8>) {
    if size > file.len() {
        let gap = size - file.len();
        file.extend(fill(gap));
    } else {
        file.truncate(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write of three sectors and a half over a file of one.
    fn file() -> File {
        let mut file = File::new(vec![1; SECTOR]);
        file.write(256, &[2; 3 * SECTOR]);
        file
    }

    fn survivors(file: &File, kept: Kept, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut random = |bound| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % bound
        };
        file.survivors(&mut Luck { random: &mut random, kept, losses: Losses::default() })
    }

    #[test]
    fn what_is_synced_survives_whatever_the_luck() {
        let mut file = file();
        file.truncate(1000);
        file.sync();

        for (seed, kept) in [Kept::Nothing, Kept::All, Kept::First, Kept::Some(3)].into_iter().enumerate() {
            assert_eq!(survivors(&file, kept, seed as u64), [vec![1; 256], vec![2; 744]].concat());
        }
    }

    #[test]
    fn what_is_not_synced_is_cut_at_sectors_and_leaves_what_is_beside_it() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let found = survivors(&file(), Kept::Some(4), seed);

            assert_eq!(found[..256], [1; 256], "bytes beside the write");
            assert!(found[256..SECTOR] == [1; 256] || found[256..SECTOR] == [2; 256], "a part of a sector");
            let whole = |sector: usize| found.get(sector * SECTOR..(sector + 1) * SECTOR) == Some(&[2; SECTOR]);
            seen.insert((found[256] == 2, whole(1), whole(2), found.len()));
        }
        assert!(
            seen.contains(&(false, false, true, 256 + 3 * SECTOR)),
            "a later part without an earlier one: {seen:?}"
        );
        assert!(seen.contains(&(true, true, false, 256 + 3 * SECTOR)), "a size without its bytes: {seen:?}");
        assert!(seen.contains(&(false, false, false, SECTOR)), "nothing: {seen:?}");
    }

    #[test]
    fn what_reaches_the_disk_in_order_is_lost_from_some_place_on() {
        let mut file = File::default();
        (0..6).for_each(|sector| file.write(sector * SECTOR as u64, &[3; SECTOR]));

        let lengths: std::collections::BTreeSet<_> = (0..200)
            .map(|seed| {
                let found = survivors(&file, Kept::First, seed);
                found.chunks(SECTOR).take_while(|sector| **sector == [3; SECTOR]).count()
            })
            .collect();

        assert_eq!(lengths, (0..=6).collect());
    }
}
