//! The disk whose power is cut, under plain SQLite: a commit that was told is there, and the file is whole.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;

use flowstone_disk::{Cut, Disk, Image};
use rusqlite::Connection;
use tempfile::TempDir;

const ROWS: u32 = 40;

/// Fills a table in the folder until the power goes, and returns how many rows were told to be committed.
fn fill(folder: &Path, synchronous: &str) -> u32 {
    let begin = || -> rusqlite::Result<_> {
        let db = Connection::open(folder.join("test.db"))?;
        db.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 8;
             CREATE TABLE IF NOT EXISTS rows (number INTEGER, text TEXT)"
        ))?;
        Ok(db)
    };
    let Ok(db) = begin() else { return 0 };
    let insert = |number| db.execute("INSERT INTO rows VALUES (?1, ?2)", (number, "x".repeat(3000)));
    (1..=ROWS).find(|number| insert(*number).is_err()).map_or(ROWS, |failed| failed - 1)
}

/// Counts the rows of what is left, and checks the file; `None` if it is damaged.
fn rows(folder: &Path) -> rusqlite::Result<Option<u32>> {
    let db = Connection::open(folder.join("test.db"))?;
    let verdict: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    if verdict != "ok" {
        return Ok(None);
    }
    let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if tables == 0 { Ok(Some(0)) } else { db.query_row("SELECT count(*) FROM rows", (), |row| row.get(0)) }
}

/// Returns how many rows were told, and how many are left, for a cut; `None` if it never came.
fn cut(cut: Cut, synchronous: &str, lying: bool, seed: u64) -> Option<(u32, Option<u32>)> {
    let folder = TempDir::new().unwrap();
    let live = folder.path().join("live");
    let disk = Disk::new(&live, &Image::default(), Some(cut), || ()).unwrap();
    let disk = if lying { disk.lying() } else { disk };
    let told = fill(&live, synchronous);
    if !disk.is_off() {
        return None;
    }
    let mut state = seed;
    let (image, _) = disk.survivors(&mut |bound| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    });
    let left = folder.path().join("left");
    image.write(&left).unwrap();
    Some((told, rows(&left).unwrap_or_default()))
}

fn every_cut() -> impl Iterator<Item = Cut> {
    let syncs = (0..).flat_map(|nth| [false, true].map(|done| Cut::Sync { nth, done })).take(160);
    syncs.chain((0..400).step_by(3).map(Cut::Change))
}

#[test]
fn what_sqlite_has_committed_survives_a_cut_at_every_sync() {
    let mut cuts = 0;
    for (seed, at) in every_cut().enumerate() {
        let Some((told, found)) = cut(at, "FULL", false, seed as u64) else { continue };
        let found = found.unwrap_or_else(|| panic!("{at:?}, luck {seed}: damaged"));

        assert!(found >= told && found <= told + 1, "{at:?}, luck {seed}: {found} rows of {told}");
        cuts += 1;
    }
    assert!(cuts > 100, "{cuts} cuts");
}

#[test]
fn without_syncs_commits_are_lost() {
    let lost = |synchronous: &str, lying| {
        let cuts = every_cut().enumerate().filter_map(|(seed, at)| cut(at, synchronous, lying, seed as u64));
        cuts.filter(|(told, found)| found.is_none_or(|found| found < *told)).count()
    };

    assert!(lost("NORMAL", false) > 10);
    assert!(lost("FULL", true) > 10);
}

#[test]
fn a_disk_without_power_does_nothing_more() {
    let folder = TempDir::new().unwrap();
    let live = folder.path().join("live");
    let disk = Disk::new(&live, &Image::default(), Some(Cut::Change(20)), || ()).unwrap();

    assert!(disk.while_on(|| ()).is_some());
    fill(&live, "FULL");

    assert!(disk.is_off() && disk.while_on(|| ()).is_none());
    assert_eq!(disk.counts().changes, 21);
    assert!(Connection::open(live.join("test.db")).and_then(|db| db.execute("CREATE TABLE more (a)", ())).is_err());
}
