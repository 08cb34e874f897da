//! Fields of a state that serde skips: they live as long as the run is in memory.

use flowstone_core::{AsyncFlow, END};
use flowstone_durable::{Runs, Status};
use serde::{Deserialize, Serialize};

use crate::common::{Folder, soon};

#[derive(Default, Serialize, Deserialize)]
struct Report {
    #[serde(skip)]
    cached: u32,
    seen: Vec<u32>,
    approved: bool,
}

struct Approve;

impl flowstone_core::Ask<Report> for Approve {
    type Question = ();
    type Answer = bool;
    type Action = ();

    fn ask(&self, _: &Report) -> flowstone_core::Result<()> {
        Ok(())
    }

    fn post(&self, report: &mut Report, answer: bool) -> flowstone_core::Result<()> {
        report.approved = answer;
        Ok(())
    }
}

#[tokio::test]
async fn a_field_that_serde_skips_is_kept_between_visits_and_not_over_a_pause() {
    let folder = Folder::new();
    let mut flow = AsyncFlow::builder("report");
    let fill = flow.add("fill", |report: &mut Report| report.cached = 7);
    let before = flow.add("before", |report: &mut Report| report.seen.push(report.cached));
    let ask = flow.add("ask", Approve);
    let after = flow.add("after", |report: &mut Report| report.seen.push(report.cached));
    flow.start(fill);
    flow.route(fill >> before >> ask >> after >> END);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("r", Report { cached: 3, ..Report::default() }).await.unwrap();
    assert_eq!(run.settled().await.unwrap(), Status::Paused);

    run.answer("ask", true).await.unwrap();

    let ended = soon("the end", run.finished()).await.unwrap().ended().unwrap();
    assert_eq!(ended.state.seen, [7, 0]);
}
