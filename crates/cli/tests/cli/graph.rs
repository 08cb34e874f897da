//! `graph`: of a store, and of a program without one.

use serde_json::json;

use crate::common::{Desk, Said};

#[test]
fn a_graph_is_a_list_of_nodes_with_their_edges() {
    let desk = Desk::with_runs();

    let text = desk.flowstone("graph --flow invoice").ok();

    assert!(text.starts_with("flow invoice (version "), "{text}");
    let wanted = ")
  (start) -> scan
  scan: async node
      -> check
  check: async batch, 2 attempts, not journaled
      -> approve
  approve: asks, and waits for an answer
      -> post
  post: function
      -> (end)
after a crash batch `check` restarts whole: it is not journaled
";
    assert!(text.ends_with(wanted), "{text}");
}

#[test]
fn a_flow_for_each_item_is_shown_inside_its_node() {
    let desk = Desk::with_runs();

    let text = desk.flowstone("graph --flow year").ok();

    let wanted = "
  (start) -> months
  months: flow `month` for each item, journaled
      -> (end)
      (start) -> double
      double: function
          -> (exit)
";
    assert!(text.ends_with(wanted), "{text}");
}

#[test]
fn pictures_are_of_one_flow() {
    let desk = Desk::with_runs();

    assert!(desk.flowstone("graph --flow year --dot").ok().starts_with("digraph \"year\" {\n"));
    assert!(desk.flowstone("graph --flow year --mermaid").ok().starts_with("flowchart TD\n"));
    let several = desk.flowstone("graph --mermaid").failed();
    assert!(several.starts_with("error: a picture is of one flow: name it with --flow; there is `"), "{several}");
    let unknown = desk.flowstone("graph --flow x").failed();
    assert!(unknown.starts_with("error: there is no flow `x`; there is `"), "{unknown}");
}

#[test]
fn a_program_shows_its_own_flows_without_a_store() {
    let desk = Desk::empty();

    let json = Said::of(desk.desk_command("graph --json").env_remove("FLOWSTONE_STORE")).json();

    let names: Vec<_> = json["flows"].as_array().unwrap().iter().map(|flow| &flow["name"]).collect();
    assert_eq!(names, ["invoice", "year", "reminder"]);
    assert_eq!(json["flows"][0]["graph"]["nodes"][1]["journaled"], json!(false));
}
