//! The visit of a batch flow that is made again: its children keep their questions, and those that failed wait.

use super::*;

/// Flows whose list of invoices belongs to the program.
fn listed(world: &World, numbers: &'static [u32]) -> AsyncFlow<Month> {
    let mut flow = AsyncFlow::builder("month");
    let fork = |_: &Month| numbers.iter().map(|number| Invoice { number: *number, ..Invoice::default() }).collect();
    let review = flow.add("review", invoice(world).batch(fork, join).parallel(4).journaled());
    flow.start(review);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_question_goes_with_its_item_to_its_new_place() {
    let (folder, world) = (Folder::new(), World::default());
    let runs = Runs::open(folder.store(), listed(&world, &[1, 2, 3])).await.unwrap();
    let run = runs.start("m", Month::default()).await.unwrap();
    soon("the questions", run.settled()).await.unwrap();
    runs.store().close().await;

    let runs = Runs::open(folder.store(), listed(&world, &[3, 1, 4])).await.unwrap();
    runs.answer("m", "review[0]/approve", true).await.unwrap();
    until("1 is paid", async || world.ledger.count("pay 1") == 1).await;
    let run = runs.get("m").await.unwrap();
    soon("the others wait", run.settled()).await.unwrap();

    assert_eq!(open(&Reader::open(folder.store()).unwrap()), ["review[0]/approve", "review[2]/approve"]);
    runs.answer("m", "review[2]/approve", true).await.unwrap();
    until("4 is paid", async || world.ledger.count("pay 4") == 1).await;
    assert_eq!(world.ledger.count("pay 3"), 0);
    runs.answer("m", "review[0]/approve", true).await.unwrap();
    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.approved, [3, 1, 4]);
}

#[tokio::test]
async fn a_child_that_failed_is_not_tried_again_with_each_answer_to_the_others() {
    let (folder, world) = (Folder::new(), World::default());
    let ledger = world.ledger.clone();
    let mut child = AsyncFlow::builder("invoice");
    let read = child.add(
        "read",
        flowstone_core::step(
            |invoice: &Invoice| invoice.number,
            move |number: &u32| {
                ledger.add(format!("try {number}"));
                if *number == 0 { Err(NodeError::terminal("unreadable")) } else { Ok(()) }
            },
            |_: &mut Invoice, _, _| (),
        ),
    );
    let approve = child.add("approve", Approve { asked: Arc::clone(&world.asked), minutes: 0, unlucky: None });
    child.start(read);
    child.route(read >> approve);
    child.route(approve - "yes" >> END);
    let collect = |month: &mut Month, ended: Vec<Child<Invoice>>| {
        month.failed = ended.iter().filter(|child| child.result.is_err()).count() as u32;
    };
    let mut flow = AsyncFlow::builder("month");
    let review = flow.add("review", child.build().unwrap().batch_collect(fork, collect).parallel(4).journaled());
    flow.start(review);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("m", Month::of(4)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();

    for number in 1..4 {
        soon("the questions", run.settled()).await.unwrap();
        assert_eq!((open(&reader).len(), world.ledger.count("try 0")), (4 - number, 1));
        runs.answer("m", format!("review[{number}]/approve"), true).await.unwrap();
        until("it goes on", async || open(&reader).len() == 3 - number).await;
    }

    assert_eq!(soon("the end", run.finished()).await.unwrap().ended().unwrap().state.failed, 1);
    assert_eq!(world.ledger.count("try 0"), 2, "once more when none waits any more");
}

#[tokio::test]
async fn a_child_of_a_child_that_is_answered_goes_on_while_others_still_run() {
    let (folder, world, gate) = (Folder::new(), World::default(), Gate::closed());
    let (wait, ledger) = (gate.clone(), world.ledger.clone());
    let mut child = AsyncFlow::builder("invoice");
    let first = work(
        move |cx| {
            let (wait, waits) = (wait.clone(), cx.node().as_str().contains("months[1]"));
            async move {
                if waits {
                    wait.pass().await;
                }
                Ok(0)
            }
        },
        |_: &mut Invoice, _| Action::from("done"),
    );
    let first = child.add("first", first);
    let approve = child.add("approve", Approve { asked: Arc::clone(&world.asked), minutes: 0, unlucky: None });
    let pay = child.add("pay", move |invoice: &mut Invoice| ledger.add(format!("pay {}", invoice.number)));
    child.start(first);
    child.route(first - "done" >> approve);
    child.route(approve - "yes" >> pay);
    child.route(approve - "no" >> END);
    let mut month = AsyncFlow::builder("month");
    let review = month.add("review", child.build().unwrap().batch(fork, join).journaled());
    month.start(review);
    let mut flow = AsyncFlow::builder("year");
    let fork = |_: &Year| vec![Month::of(1), Month::of(1)];
    let join = |year: &mut Year, months: Vec<Month>| year.months = months;
    let months = flow.add("months", month.build().unwrap().batch(fork, join).parallel(2).journaled());
    flow.start(months);
    let runs = Runs::open(folder.store(), flow.build().unwrap()).await.unwrap();
    let run = runs.start("m", Year::default()).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("one asks", async || open(&reader) == ["months[0]/review[0]/approve"]).await;

    runs.answer("m", "months[0]/review[0]/approve", true).await.unwrap();

    until("it goes on", async || world.ledger.count("pay 0") == 1).await;
    gate.open();
    until("the other asks", async || open(&reader) == ["months[1]/review[0]/approve"]).await;
    runs.answer("m", "months[1]/review[0]/approve", true).await.unwrap();
    soon("the end", run.finished()).await.unwrap().ended().unwrap();
}

/// Children that ask, but for the first, which waits at a gate; when it is answered a child waits at another.
fn gated(node: &str, gates: [&Gate; 2]) -> AsyncFlow<Month> {
    let at = |gate: &Gate, all: bool| {
        let gate = gate.clone();
        work(
            move |cx| {
                let (gate, waits) = (gate.clone(), all || cx.node().as_str().contains("[0]"));
                async move {
                    if waits {
                        gate.pass().await;
                    }
                    Ok(0)
                }
            },
            |_: &mut Invoice, _| Action::from("done"),
        )
    };
    let mut child = AsyncFlow::builder("invoice");
    let first = child.add("first", at(gates[0], false));
    let approve = child.add("approve", Approve { asked: Arc::default(), minutes: 0, unlucky: None });
    let pay = child.add("pay", at(gates[1], true));
    child.start(first);
    child.route(first - "done" >> approve);
    child.route(approve - "yes" >> pay);
    child.route(approve - "no" >> END);
    child.route(pay - "done" >> END);
    let mut flow = AsyncFlow::builder("month");
    let review = flow.add(node, child.build().unwrap().batch(fork, join).parallel(2).journaled());
    flow.start(review);
    flow.build().unwrap()
}

#[tokio::test]
async fn a_child_that_was_answered_from_beside_goes_on_also_after_a_program_that_refused_its_parent() {
    let (folder, first, pay) = (Folder::new(), Gate::closed(), Gate::closed());
    let runs = Runs::open(folder.store(), gated("review", [&first, &pay])).await.unwrap();
    runs.start("m", Month::of(2)).await.unwrap();
    let reader = Reader::open(folder.store()).unwrap();
    until("one asks", async || open(&reader) == ["review[1]/approve"]).await;
    Requests::open(folder.store()).unwrap().answer("m", "review[1]/approve", true).unwrap();
    until("it is answered", async || reader.children("m").unwrap().iter().any(|child| child.step == 2)).await;
    runs.store().close().await;

    let runs = Runs::open(folder.store(), gated("other", [&first, &pay])).await.unwrap();
    assert_eq!(runs.store().resume_all().await.unwrap().refused.len(), 1);
    runs.store().close().await;
    first.open();
    pay.open();
    let runs = Runs::open(folder.store(), gated("review", [&first, &pay])).await.unwrap();
    runs.store().resume_all().await.unwrap();
    until("the first asks", async || open(&reader) == ["review[0]/approve"]).await;
    runs.answer("m", "review[0]/approve", true).await.unwrap();

    soon("the end", runs.get("m").await.unwrap().finished()).await.unwrap().ended().unwrap();
}
