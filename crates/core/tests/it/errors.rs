//! Errors: their texts, and the facts in them that need no reading of the text (LESSONS rows 13, 21).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
    num::ParseIntError,
};

use crate::common::{alone_sync, blocking, causes, items, secs};
use flowstone_core::{BoxError, Flow, NodeError, NodeExt, Phase, Result, Retry, RunError, RunOptions, step};

/// A service that is busy, caused by an error of the network.
#[derive(Debug)]
struct Busy {
    source: io::Error,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service is busy")
    }
}

impl Error for Busy {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

fn busy() -> Busy {
    Busy { source: io::Error::new(ErrorKind::ConnectionReset, "connection reset") }
}

fn parse(text: &str) -> Result<u32> {
    Ok(text.parse()?)
}

#[test]
fn any_error_becomes_a_nodes_through_the_question_mark() {
    fn io() -> Result<()> {
        Err(io::Error::other("disk full"))?
    }
    fn text() -> Result<()> {
        Err("just a text")?
    }
    fn string() -> Result<()> {
        Err(format!("code {}", 7))?
    }
    fn boxed() -> Result<()> {
        Err(BoxError::from(busy()))?
    }
    fn own() -> Result<()> {
        Err(NodeError::terminal("no use"))?
    }

    let texts = [io(), text(), string(), boxed(), own()].map(|result| result.unwrap_err().to_string());

    assert_eq!(texts, ["disk full", "just a text", "code 7", "the service is busy", "no use"]);
    assert!(own().unwrap_err().is_terminal());
}

#[test]
fn an_error_of_a_node_keeps_its_type() {
    let error = parse("x").unwrap_err();

    assert!(error.downcast_ref::<ParseIntError>().is_some());
    assert!(error.downcast_ref::<io::Error>().is_none());
    assert!(error.source_ref().is::<ParseIntError>());
    assert!(error.into_source().downcast::<ParseIntError>().is_ok());
}

#[test]
fn an_error_is_retryable_unless_it_says_otherwise() {
    let (plain, terminal) = (NodeError::new("x"), NodeError::terminal("x"));
    let after = NodeError::new("x").with_retry_after(secs(3));

    assert_eq!([plain.is_terminal(), terminal.is_terminal(), after.is_terminal()], [false, true, false]);
    assert_eq!([plain.retry_after(), terminal.retry_after(), after.retry_after()], [None, None, Some(secs(3))]);
}

#[test]
fn an_error_can_be_debugged() {
    let error = NodeError::terminal("no use").with_retry_after(secs(3));

    assert_eq!(format!("{error:?}"), r#"NodeError { source: "no use", terminal: true, retry_after: Some(3s) }"#);
}

fn named() -> RunOptions {
    RunOptions::new().id("r1")
}

/// The error of a run of one node.
fn error_of(flow: &Flow<Vec<u32>>) -> RunError {
    flow.run_with(&mut vec![], &named()).unwrap_err()
}

#[test]
fn an_error_of_a_run_names_run_node_phase_and_attempts_and_has_the_chain_of_causes() {
    let flow = alone_sync(blocking(|_| Err(busy().into())).retry(Retry::attempts(3)));

    let error = error_of(&flow);

    assert_eq!(error.to_string(), "run `r1`: node `node` failed in exec after 3 attempts");
    assert_eq!(
        causes(&error),
        "run `r1`: node `node` failed in exec after 3 attempts: the service is busy: connection reset"
    );
    assert_eq!(error.report(), causes(&error));
    assert!(error.source().unwrap().is::<Busy>());
}

#[test]
fn an_error_of_an_item_names_it() {
    let flow = alone_sync(items(9, |item, _| if item == 7 { parse("x") } else { Ok(1) }));

    let error = error_of(&flow);

    assert_eq!(
        error.report(),
        "run `r1`: node `node`, item 7, failed in exec after 1 attempt: invalid digit found in string"
    );
}

#[test]
fn an_error_outside_exec_counts_no_attempts() {
    let prep: Flow<Vec<u32>> = alone_sync(PrepFails);
    let post = alone_sync(step(|_: &Vec<u32>| (), |(): &()| Ok(()), |_: &mut Vec<u32>, (), ()| parse("x").map(drop)));

    let reports = [&prep, &post].map(|flow| error_of(flow).report());

    assert_eq!(reports[0], "run `r1`: node `node` failed in prep: nothing there");
    assert_eq!(reports[1], "run `r1`: node `node` failed in post: invalid digit found in string");
}

/// Fails before its `exec`.
struct PrepFails;

impl flowstone_core::Node<Vec<u32>> for PrepFails {
    type Prep = ();
    type Exec = ();
    type Action = ();

    fn prep(&self, _: &Vec<u32>) -> Result<()> {
        Err("nothing there".into())
    }

    fn exec(&self, (): &(), _: &flowstone_core::Context) -> Result<()> {
        Ok(())
    }

    fn post(&self, _: &mut Vec<u32>, (): (), (): ()) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_run_without_a_name_has_an_id_of_its_own() {
    let flow = alone_sync(blocking(|cx| Result::<u32>::Err(cx.run_id().to_string().into())));

    let ids = [(); 2].map(|()| match flow.run(&mut vec![]).unwrap_err() {
        RunError::Node { run, source, .. } => {
            assert_eq!(run.to_string(), source.to_string());
            run
        }
        error => panic!("{error}"),
    });

    assert_ne!(ids[0], ids[1]);
}

#[test]
fn errors_of_runs_can_cross_threads_and_become_any_error() {
    fn run() -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        alone_sync(blocking(|_| parse("x"))).run(&mut vec![])?;
        Ok(())
    }

    let error = std::thread::spawn(run).join().unwrap().unwrap_err();

    assert!(matches!(error.downcast_ref(), Some(RunError::Node { phase: Phase::Exec, .. })));
}

#[test]
fn an_error_of_a_run_can_be_the_error_of_a_node() {
    let inner = alone_sync(blocking(|_| parse("x")));
    let outer: Flow<Vec<u32>> = alone_sync(blocking(move |_| {
        inner.run(&mut vec![])?;
        Ok(1)
    }));

    let error = error_of(&outer);

    assert!(error.source().unwrap().is::<RunError>());
    assert!(
        error.report().ends_with("failed in exec after 1 attempt: invalid digit found in string"),
        "{}",
        error.report()
    );
}

#[test]
fn phases_are_words() {
    let phases = [Phase::Prep, Phase::Exec, Phase::Post];

    assert_eq!(phases.map(|phase| phase.to_string()), ["prep", "exec", "post"]);
    assert_eq!(serde_json::to_string(&phases).unwrap(), r#"["prep","exec","post"]"#);
}

#[test]
fn a_run_error_says_whether_to_try_again_and_when() {
    let busy = |(): &mut ()| -> Result<()> { Err(NodeError::new("busy").with_retry_after(secs(7))) };
    let never = |(): &mut ()| -> Result<()> { Err(NodeError::terminal("never")) };

    let errors = [alone_sync(busy).run(&mut ()), alone_sync(never).run(&mut ())];

    let said = errors.map(|result| match result {
        Err(RunError::Node { terminal, retry_after, .. }) => (terminal, retry_after),
        other => panic!("{other:?}"),
    });
    assert_eq!(said, [(false, Some(secs(7))), (true, None)]);
}
