//! Files that are deleted, renamed or replaced while they are open: nothing is told that is nowhere.
#![cfg(unix)]

use std::{fs, path::Path};

use flowstone_durable::{Error, OpenError, Reader, Requests, Runs, StoreFault};

use crate::common::{Count, Folder, Gate, Ledger, counting, gated, rows, soon, until};

type Harm = fn(&Path);

fn delete(file: &Path) {
    fs::remove_file(file).unwrap();
}

fn rename(file: &Path) {
    fs::rename(file, file.with_extension("away")).unwrap();
}

fn replace(file: &Path) {
    let copy = file.with_extension("copy");
    fs::copy(file, &copy).unwrap();
    fs::rename(copy, file).unwrap();
}

fn move_folder(file: &Path) {
    let folder = file.parent().unwrap();
    fs::rename(folder, folder.with_extension("away")).unwrap();
}

const HARMS: [Harm; 4] = [delete, rename, replace, move_folder];

fn is_moved(error: impl Into<Error>) -> bool {
    error.into().fault() == Some(StoreFault::Moved)
}

/// A folder inside another, so that it may be moved.
fn store(folder: &Folder, n: usize) -> std::path::PathBuf {
    let inner = folder.file(&format!("stores-{n}"));
    fs::create_dir(&inner).unwrap();
    inner.join("runs.db")
}

#[tokio::test]
async fn a_run_whose_files_are_gone_is_never_told_as_finished() {
    let folder = Folder::new();
    for (n, (end, harm)) in ["", "-wal"].iter().flat_map(|end| HARMS.map(|harm| (end, harm))).enumerate() {
        let (path, ledger, gate) = (store(&folder, n), Ledger::default(), Gate::closed());
        let runs = Runs::open(&path, gated(&ledger, &gate)).await.unwrap();
        let run = runs.start("r", Count::to(2)).await.unwrap();
        until("the node", async || ledger.len() > 0).await;

        harm(Path::new(&format!("{}{end}", path.display())));
        gate.open();

        let error = soon("the fault", run.finished()).await.unwrap_err();
        assert!(is_moved(error.clone()), "case {n}: {error:?}");
        assert!(is_moved(runs.start("s", Count::to(2)).await.unwrap_err()), "case {n}");
        assert!(is_moved(run.info().await.unwrap_err()) && is_moved(run.state().await.unwrap_err()), "case {n}");
        assert!(matches!(runs.store().reader(), Err(OpenError::Store { .. })), "case {n}");
        soon("closing", runs.store().close()).await;
    }
}

#[tokio::test]
async fn nothing_is_written_to_the_files_that_took_the_place_of_a_stores() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    for end in ["", "-wal", "-shm", "-lock"] {
        let file = folder.file(&format!("runs.db{end}"));
        fs::rename(&file, folder.file(&format!("old.db{end}"))).unwrap();
    }

    // Another program makes a store of its own there.
    let other = Runs::open(folder.store(), counting(&ledger)).await.unwrap();
    other.start("o", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap();
    gate.open();
    assert!(is_moved(soon("the fault", run.finished()).await.unwrap_err()));
    runs.store().close().await;
    drop((runs, run));

    assert_eq!(other.start("p", Count::to(3)).await.unwrap().finished().await.unwrap().ended().unwrap().state.n, 3);
    other.store().close().await;
    assert_eq!(rows(&folder.store()), [("runs", 2), ("visits", 8)]);
    assert_eq!(rows(&folder.file("old.db")), [("runs", 1), ("visits", 2)]);
}

#[tokio::test]
async fn a_store_whose_files_are_put_back_goes_on() {
    let (folder, ledger, gate) = (Folder::new(), Ledger::default(), Gate::closed());
    let runs = Runs::open(folder.store(), gated(&ledger, &gate)).await.unwrap();
    let run = runs.start("r", Count::to(2)).await.unwrap();
    until("the node", async || ledger.len() > 0).await;
    fs::rename(folder.store(), folder.file("away.db")).unwrap();
    gate.open();
    assert!(is_moved(soon("the fault", run.finished()).await.unwrap_err()));

    fs::rename(folder.file("away.db"), folder.store()).unwrap();
    until("it goes on", async || {
        run.resume();
        run.finished().await.is_ok()
    })
    .await;

    assert_eq!(run.state().await.unwrap().n, 2);
}

#[tokio::test]
async fn a_reader_and_requests_of_files_that_are_gone_say_so() {
    let folder = Folder::new();
    for (n, harm) in HARMS.into_iter().enumerate() {
        let (path, ledger) = (store(&folder, n), Ledger::default());
        let runs = Runs::open(&path, counting(&ledger)).await.unwrap();
        runs.start("r", Count::to(2)).await.unwrap().finished().await.unwrap().ended().unwrap();
        let (reader, mut requests) = (Reader::open(&path).unwrap(), Requests::open(&path).unwrap());
        assert_eq!(reader.run("r").unwrap().step, 2);

        harm(&path);

        assert!(is_moved(reader.run("r").unwrap_err()), "case {n}");
        assert!(is_moved(reader.list(&flowstone_durable::Filter::new()).unwrap_err()), "case {n}");
        assert!(is_moved(requests.delete("r").unwrap_err()), "case {n}");
        runs.store().close().await;
    }
}
