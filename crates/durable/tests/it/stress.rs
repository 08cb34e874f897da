//! Many short runs at once: nobody who waits is forgotten.

use flowstone_durable::{Runs, Status};

use crate::common::{Count, Folder, Invoice, Ledger, approving, counting, soon};

#[tokio::test]
async fn who_waits_for_a_run_always_hears_of_it() {
    waits("one thread").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_run_always_hears_of_it_on_several_threads() {
    waits("two threads").await;
}

async fn waits(what: &str) {
    let (folder, ledger) = (Folder::new(), Ledger::default());
    let runs = Runs::open(folder.store(), approving(&ledger)).await.unwrap();
    let counts = runs.store().runs(counting(&ledger)).await.unwrap();
    for round in 0..60 {
        let run = runs.start(format!("a{round}"), Invoice::default()).await.unwrap();
        let count = counts.start(format!("c{round}"), Count::to(round % 4 + 1)).await.unwrap();
        let what = format!("{what}, round {round}");
        assert_eq!(soon(&what, run.settled()).await.unwrap(), Status::Paused);
        run.answer("ask", round % 2 == 0).await.unwrap();
        assert_eq!(soon(&what, run.settled()).await.unwrap(), Status::Ended);
        assert_eq!(soon(&what, count.finished()).await.unwrap().ended().unwrap().state.n, round % 4 + 1);
    }
}
