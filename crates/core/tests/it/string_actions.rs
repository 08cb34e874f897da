//! String actions: labels known at run time only (SEMANTICS rows 11, 12, 13; LESSONS rows 3, 4).

#![expect(clippy::unwrap_used, reason = "helpers are tests, too")]

use crate::common::{alone_sync, causes, ended};
use flowstone_core::{Action, AsyncFlow, END, Flow, RunError, RunOptions, Unrouted};

type Trail = Vec<&'static str>;

/// A flow whose first node returns what the state says, with edges `x`, `y` and the default one.
fn branches(unrouted: Option<Unrouted>, with_default: bool) -> Flow<(Action, Trail)> {
    let mut flow = Flow::builder("branches");
    let first = flow.add("first", |state: &mut (Action, Trail)| state.0.clone());
    let [x, y, other] =
        ["x", "y", "other"].map(|name| flow.add(name, move |state: &mut (Action, Trail)| state.1.push(name)));
    flow.start(first);
    flow.route(first - "x" >> x);
    flow.route(first - "y" >> y);
    if with_default {
        flow.route(first >> other);
    } else {
        flow.route(x >> other);
    }
    if let Some(unrouted) = unrouted {
        flow.unrouted(unrouted);
    }
    flow.build().unwrap()
}

fn run(flow: &Flow<(Action, Trail)>, action: &str) -> Result<(Trail, String), RunError> {
    let mut state = (Action::from(action.to_owned()), vec![]);
    let outcome = flow.run_with(&mut state, &RunOptions::new().id("r1"))?;
    Ok((state.1, outcome.action().unwrap().to_string()))
}

#[test]
fn an_action_takes_the_edge_of_its_name() {
    let flow = branches(None, true);

    assert_eq!(run(&flow, "x").unwrap().0, ["x"]);
    assert_eq!(run(&flow, "y").unwrap().0, ["y"]);
}

#[test]
fn the_empty_action_is_the_default_one() {
    let flow = branches(None, true);

    assert_eq!(run(&flow, "").unwrap().0, ["other"]);
    assert_eq!(run(&flow, "default").unwrap().0, ["other"]);
    assert_eq!(Action::from(""), Action::default());
}

#[test]
fn an_unrouted_action_is_an_error_that_names_node_action_and_edges() {
    let error = run(&branches(None, true), "z").unwrap_err();

    assert_eq!(
        causes(&error),
        "run `r1`: node `first` returned `z`, which is routed nowhere; its edges are [\"x\", \"y\", \"default\"] \
         (add a route, or build the flow with `Unrouted::End`)"
    );
}

#[test]
fn an_unrouted_action_does_not_fall_back_to_the_default_edge() {
    let error = run(&branches(Some(Unrouted::Error), true), "z").unwrap_err();

    assert!(matches!(error, RunError::Unrouted { .. }), "{error}");
}

#[test]
fn an_unrouted_action_ends_the_flow_where_that_was_asked_for() {
    let (trail, action) = run(&branches(Some(Unrouted::End), true), "z").unwrap();

    assert_eq!((trail, action.as_str()), (vec![], "z"));
}

#[test]
fn the_default_action_without_a_default_edge_is_unrouted() {
    let error = run(&branches(None, false), "").unwrap_err();

    assert!(matches!(error, RunError::Unrouted { action, .. } if action == Action::DEFAULT));
}

#[test]
fn any_action_without_edges_ends_the_flow() {
    let flow = alone_sync(|state: &mut String| Action::from(state.clone()));

    for action in ["done", "default", "🦀 or whatever"] {
        assert_eq!(ended(flow.run(&mut action.to_owned())), action);
    }
}

#[test]
fn an_unrouted_action_keeps_what_its_node_wrote() {
    let mut flow = Flow::builder("writes");
    let write = flow.add("write", |state: &mut Trail| {
        state.push("written");
        Action::from("odd")
    });
    flow.start(write);
    flow.route(write >> END);

    let mut trail = vec![];
    flow.build().unwrap().run(&mut trail).unwrap_err();

    assert_eq!(trail, ["written"]);
}

#[test]
fn an_edge_can_lead_a_string_action_to_the_end() {
    let mut flow = Flow::builder("stops");
    let node = flow.add("node", |action: &mut Action| action.clone());
    flow.start(node);
    flow.route(node - "again" >> node);
    flow.route(node - "stop" >> END);

    assert_eq!(ended(flow.build().unwrap().run(&mut "stop".into())), "stop");
}

#[test]
fn a_label_made_at_run_time_is_a_route_too() {
    let mut flow = Flow::builder("dynamic");
    let node = flow.add("node", |left: &mut u32| {
        *left -= 1;
        Action::from(format!("at {left}"))
    });
    flow.start(node);
    for left in 1..5 {
        flow.route(node - Action::from(format!("at {left}")) >> node);
    }
    flow.route(node - Action::from("at 0".to_owned()) >> END);

    let mut left = 5;
    ended(flow.build().unwrap().run(&mut left));

    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_async_flow_has_the_same_rules() {
    for rule in [Unrouted::Error, Unrouted::End] {
        let mut flow = AsyncFlow::builder("async");
        let node = flow.add("node", |(): &mut ()| Action::from("odd"));
        flow.start(node);
        flow.route(node >> END);
        flow.unrouted(rule);

        let result = flow.build().unwrap().run_async(&mut ()).await;

        match rule {
            Unrouted::End => assert_eq!(ended(result), "odd"),
            Unrouted::Error => assert!(matches!(result, Err(RunError::Unrouted { .. }))),
        }
    }
}

#[test]
fn actions_survive_json() {
    let actions = ["default", "again", "🦀"].map(Action::from);

    let json = serde_json::to_string(&actions).unwrap();
    let back: [Action; 3] = serde_json::from_str(&json).unwrap();

    assert_eq!(json, r#"["default","again","🦀"]"#);
    assert_eq!(back, actions);
    assert_eq!(serde_json::from_str::<Action>("\"\"").unwrap(), Action::DEFAULT);
}
