//! The list of runs: filters, pages, and what a page costs.

use std::time::{Duration, SystemTime};

use flowstone_durable::{Cursor, Filter, Reader, RunInfo, Runs, Status, Store};
use rusqlite::Connection;

use crate::common::{Count, Folder, Invoice, Ledger, approving, counting};

fn ids(runs: &[RunInfo]) -> Vec<&str> {
    runs.iter().map(|run| run.id.as_str()).collect()
}

/// Three that ended, two that are paused, started in turn.
async fn five(folder: &Folder) -> Store {
    let ledger = Ledger::default();
    let store = Store::open(folder.store()).await.unwrap();
    let counts = store.runs(counting(&ledger)).await.unwrap();
    let approvals = store.runs(approving(&ledger)).await.unwrap();
    for (n, id) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        if n % 2 == 0 {
            counts.start(id, Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();
        } else {
            approvals.start(id, Invoice::default()).await.unwrap().settled().await.unwrap();
        }
    }
    store
}

#[tokio::test]
async fn the_newest_come_first() {
    let folder = Folder::new();
    let _store = five(&folder).await;

    let listed = Reader::open(folder.store()).unwrap().list(&Filter::new()).unwrap();

    assert_eq!(ids(&listed), ["e", "d", "c", "b", "a"]);
}

#[tokio::test]
async fn a_filter_takes_a_flow_and_statuses() {
    let folder = Folder::new();
    let store = five(&folder).await;
    let reader = Reader::open(folder.store()).unwrap();
    let list = |filter: Filter| reader.list(&filter).unwrap();

    assert_eq!(ids(&list(Filter::new().flow("count"))), ["e", "c", "a"]);
    assert_eq!(ids(&list(Filter::new().status(Status::Paused))), ["d", "b"]);
    assert_eq!(ids(&list(Filter::new().status(Status::Paused).status(Status::Ended))), ["e", "d", "c", "b", "a"]);
    assert_eq!(ids(&list(Filter::new().status(Status::Ended).status(Status::Ended).limit(2))), ["e", "c"]);
    assert_eq!(ids(&list(Filter::new().flow("approve").status(Status::Ended))), [""; 0]);
    assert_eq!(ids(&list(Filter::new().flow("unknown"))), [""; 0]);
    let counts = store.runs(counting(&Ledger::default())).await.unwrap();
    assert_eq!(ids(&counts.list(&Filter::new().flow("approve")).await.unwrap()), ["e", "c", "a"]);
    assert_eq!(reader.count().unwrap(), [(Status::Paused, 2), (Status::Ended, 3)]);
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let folder = Folder::new();
    let store = five(&folder).await;
    let reader = Reader::open(folder.store()).unwrap();

    let first = reader.list(&Filter::new().limit(2)).unwrap();
    let approvals = store.runs(approving(&Ledger::default())).await.unwrap();
    approvals.start("f", Invoice::default()).await.unwrap().settled().await.unwrap();
    let cursor: Cursor = first[1].cursor.to_string().parse().unwrap();
    let second = reader.list(&Filter::new().limit(2).after(cursor)).unwrap();
    let third = reader.list(&Filter::new().limit(2).after(second[1].cursor)).unwrap();

    assert_eq!((ids(&first), ids(&second), ids(&third)), (vec!["e", "d"], vec!["c", "b"], vec!["a"]));
    assert_eq!(ids(&reader.list(&Filter::new().limit(0)).unwrap()), [""; 0]);
    assert_eq!(reader.list(&Filter::new().limit(usize::MAX)).unwrap().len(), 6);
}

#[tokio::test]
async fn a_filter_takes_times_of_starts() {
    let folder = Folder::new();
    let store = five(&folder).await;
    store.close().await;
    let db = Connection::open(folder.store()).unwrap();
    db.execute("UPDATE runs SET created_at = 1000 * run", []).unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let list = |filter: Filter| reader.list(&filter).unwrap();

    assert_eq!(ids(&list(Filter::new().since(at(4)))), ["e", "d"]);
    assert_eq!(ids(&list(Filter::new().until(at(4)))), ["c", "b", "a"]);
    assert_eq!(ids(&list(Filter::new().since(at(2)).until(at(4)).status(Status::Ended))), ["c"]);
    assert_eq!(ids(&list(Filter::new().since(at(6)))), [""; 0]);
    assert_eq!(ids(&list(Filter::new().since(at(0)).until(at(1)))), [""; 0]);
    assert_eq!(ids(&list(Filter::new().since(at(2)).limit(1).after(list(Filter::new())[1].cursor))), ["c"]);
}

#[tokio::test]
async fn times_of_starts_never_go_back_in_the_list() {
    let folder = Folder::new();
    let store = five(&folder).await;
    let later = SystemTime::now() + Duration::from_secs(3600);
    let db = Connection::open(folder.store()).unwrap();
    let millis = later.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    db.execute("UPDATE runs SET created_at = ?1 WHERE id = 'e'", [millis]).unwrap();

    let counts = store.runs(counting(&Ledger::default())).await.unwrap();
    counts.start("f", Count::to(1)).await.unwrap().finished().await.unwrap().ended().unwrap();

    let filter = Filter::new().since(later - Duration::from_secs(1));
    assert_eq!(ids(&Reader::open(folder.store()).unwrap().list(&filter).unwrap()), ["f", "e"]);
}

/// Beside twenty thousand runs that have ended they take about as long as beside ten, and every query an index.
#[tokio::test]
async fn neither_a_page_nor_a_resume_depends_on_how_many_runs_have_ended() {
    let (few, many) = (Folder::new(), Folder::new());
    let (mut pages, mut resumes) = (Vec::new(), Vec::new());
    for (folder, ended) in [(&few, 10), (&many, 20_000)] {
        five(folder).await.close().await;
        add_ended(folder, ended);
        let reader = Reader::open(folder.store()).unwrap();
        let started = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(reader.list(&Filter::new().status(Status::Paused)).unwrap().len(), 2);
            assert_eq!(reader.list(&Filter::new().limit(10)).unwrap().len(), 10);
        }
        pages.push(started.elapsed());
        let runs = Runs::open(folder.store(), counting(&Ledger::default())).await.unwrap();
        let started = std::time::Instant::now();
        assert_eq!(runs.resume_all().await.unwrap().runs.len(), 0);
        resumes.push(started.elapsed());
        runs.store().close().await;
        plans(folder);
    }
    // A scan of all would take some hundred times as long; the factor is for a machine that is busy.
    assert!(pages[1] < pages[0] * 20, "{pages:?}");
    assert!(resumes[1] < resumes[0] * 20 + Duration::from_millis(50), "{resumes:?}");
}

fn add_ended(folder: &Folder, count: u32) {
    let db = Connection::open(folder.store()).unwrap();
    db.execute_batch(&format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
         INSERT INTO runs (id, flow, status, created_at, changed_at, action)
         SELECT 'ended-' || n, 1, 3, 9000000000000, 0, '' FROM n;
         INSERT INTO visits (run, seq, started_at, took_us, attempts, size, kind, body)
         SELECT run, 0, 0, 0, 0, 0, 1, x'00' FROM runs WHERE id LIKE 'ended-%';"
    ))
    .unwrap();
}

/// The most frequent statements take an index.
fn plans(folder: &Folder) {
    let db = Connection::open(folder.store()).unwrap();
    let queries = [
        "SELECT run FROM runs WHERE flow = 1 AND status = 3 AND parent IS NULL AND run >= 0 AND run < 9 ORDER BY run DESC",
        "SELECT run, id FROM runs WHERE flow = 1 AND status = 0 AND parent IS NULL AND run > 0 ORDER BY run",
        "SELECT run, wake_at FROM runs INDEXED BY runs_by_wake WHERE flow = 1 AND wake_at IS NOT NULL AND refused IS NULL ORDER BY wake_at",
        "SELECT run FROM runs INDEXED BY runs_by_refused WHERE flow = 1 AND status = 1 AND refused IS NOT NULL ORDER BY run",
        "SELECT item, run FROM runs WHERE parent = 1 AND parent_seq = 1 AND parent IS NOT NULL",
        "SELECT run FROM runs WHERE id = 'a'",
        "SELECT max(seq) AS seq FROM visits WHERE run = 1",
        "SELECT item FROM items WHERE run = 1 AND seq = 1",
    ];
    for query in queries {
        let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let plan = explain.query_map([], |row| row.get::<_, String>(3)).unwrap();
        let plan = plan.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
        assert!(plan.contains("USING") && !plan.contains("TEMP B-TREE"), "{query}: {plan}");
    }
}
