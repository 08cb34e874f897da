//! `run` and `resume`, and what other processes ask of the one that drives.

use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use flowstone_durable::Status;
use serde_json::json;

use crate::common::{Desk, Said, squeezed};

#[test]
fn run_starts_a_run_and_says_what_became_of_it() {
    let desk = Desk::empty();

    let said = desk.desk(r#"run invoice --id may --state {"lines":[5]}"#).ok();
    let again = desk.desk("run invoice --id may --json").json();

    assert!(squeezed(&said)[1].starts_with("may invoice paused 2 approve "), "{said}");
    assert_eq!((&again["runs"][0]["status"], &again["refused"]), (&json!("paused"), &json!([])));
    assert_eq!(desk.json("runs state may")["lines"], json!([5]));
}

#[test]
fn a_run_that_pauses_prints_its_question_and_the_command_that_answers_it() {
    let desk = Desk::empty();

    let said = desk.desk(r#"run invoice --id may --state {"lines":[5]}"#).ok();

    let lines: Vec<&str> = said.lines().skip(3).collect();
    assert!(lines[0].starts_with("question  at node `approve`, step 3, asked "), "{said}");
    assert_eq!(lines[1..3], [r#"asks      {"pay":[5]}"#, r#"schema    {"enum":["yes","no"]}"#]);
    // The program is named by its path, as it was called.
    let (program, command) = lines[3].strip_prefix("answer    ").unwrap().split_once(' ').unwrap();
    assert!(program.contains("desk"), "{program}");
    assert_eq!(command, "runs answer may --node approve --step 3 yes --store desk.db");
    let answered = desk.desk(command).ok();
    let resume = format!("`{program} resume --store desk.db` takes it up\n");
    assert_eq!(answered, format!("run `may` is answered: {resume}"));
    assert!(desk.desk("resume").ok().contains("ended"));
}

#[test]
fn a_waiting_driver_prints_each_question_once() {
    let desk = Desk::empty();
    let driver = spawn(&mut desk.desk_command(r#"run invoice --id may --state {"lines":[7]} --wait"#));
    wait_until(|| {
        desk.reader_if_there().is_some_and(|reader| reader.questions("may").is_ok_and(|open| !open.is_empty()))
    });
    // Two looks of the driver at what has paused.
    thread::sleep(Duration::from_millis(500));

    desk.flowstone("runs answer may yes").ok();

    let said = said(driver);
    assert_eq!((said.code, said.err.matches("question  at node `approve`, step 3").count()), (Some(0), 1), "{said:?}");
    assert!(said.err.contains("desk runs answer may --node approve --step 3 yes --store desk.db"), "{said:?}");
}

#[test]
fn events_are_appended_to_a_file_a_line_each() {
    let desk = Desk::empty();

    desk.desk("run year --id a --state {\"months\":[4]} --events events.jsonl").ok();
    desk.desk("run invoice --id b --state {\"lines\":[5]} --events events.jsonl").ok();
    let nowhere = desk.desk("run year --id c --events nowhere/events.jsonl").failed();

    let lines = fs::read_to_string(desk.path("events.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| {
        events.iter().filter(|event| event["event"] == kind).map(|event| &event["run"]).collect::<Vec<_>>()
    };
    assert!(of("run_started").contains(&&json!("a")) && of("run_started").contains(&&json!("b")), "{lines}");
    assert_eq!((of("ended"), of("paused")), (vec![&json!("a")], vec![&json!("b")]), "{lines}");
    assert!(nowhere.starts_with("error: events cannot be written to `nowhere/events.jsonl`: "), "{nowhere}");
    assert!(desk.reader().run("c").is_err());
}

#[test]
fn run_takes_its_state_from_a_file_or_from_stdin() {
    let desk = Desk::empty();
    fs::write(desk.path("state.json"), r#"{"months":[4]}"#).unwrap();

    desk.desk("run year --id file --state @state.json").ok();
    let mut child = spawn(desk.desk_command("run year --id stdin --state -").stdin(Stdio::piped()));
    child.stdin.take().unwrap().write_all(br#"{"months":[5]}"#).unwrap();
    said(child).ok();

    assert_eq!(desk.json("runs state file")["sum"], 8);
    assert_eq!(desk.json("runs state stdin")["sum"], 10);
}

#[test]
fn run_refuses_what_does_not_fit_and_starts_nothing() {
    let desk = Desk::empty();

    let flow = desk.desk("run nothing --id x").usage();
    let state = desk.desk(r#"run year --id x --state {"months":["may"]}"#).failed();
    let file = desk.desk("run year --id x --state @nowhere.json").failed();

    assert!(flow.contains("[possible values: invoice, year, reminder]"), "{flow}");
    assert!(state.starts_with("error: the state does not fit flow `year`: invalid type"), "{state}");
    assert!(file.starts_with("error: the state cannot be read from `nowhere.json`: "), "{file}");
    assert_eq!(desk.flowstone("runs list").ok(), "no runs\n");
}

#[test]
fn a_failed_run_is_exit_code_1_with_its_reason() {
    let desk = Desk::empty();

    let said = desk.desk(r#"run invoice --id may --state {"lines":[-5]}"#);

    assert!(squeezed(&said.out)[1].starts_with("may invoice failed 1 check "), "{said:?}");
    assert!(said.failed().ends_with("a line of -5 cents"));
}

#[test]
fn resume_takes_up_what_was_asked_for_while_nobody_drove() {
    let desk = Desk::with_runs();
    desk.flowstone("runs answer march --node approve yes").ok();
    desk.flowstone("runs fork april --step 0 --to april-2 --set /lines=[1]").ok();
    desk.flowstone("runs cancel call").ok();

    let said = desk.desk("resume --json").json();

    let runs: Vec<_> = said["runs"].as_array().unwrap().iter().map(|run| (&run["id"], &run["status"])).collect();
    assert_eq!(runs, [(&json!("april-2"), &json!("paused")), (&json!("march"), &json!("ended"))]);
    assert_eq!(desk.json("runs state march")["total"], 200);
    assert_eq!(desk.desk("resume").ok(), "no runs to go on with\n");
}

#[test]
fn a_retried_run_that_fails_again_is_told() {
    let desk = Desk::with_runs();
    desk.flowstone("runs retry april").ok();

    assert!(desk.desk("resume").failed().ends_with("a line of -1 cents"));
}

/// A run whose node is gone, and one whose state is damaged, stay as they are.
#[test]
fn what_cannot_go_on_does_not_keep_the_others() {
    let desk = Desk::with_runs();
    for run in ["gone", "damaged", "sound"] {
        desk.flowstone(&format!("runs fork march --step 0 --to {run}")).ok();
    }
    let store = rusqlite::Connection::open(desk.store()).unwrap();
    let of = |run: &str| format!("WHERE run = (SELECT run FROM runs WHERE id = '{run}')");
    store.execute_batch(&format!("UPDATE visits SET next = 'lost' {}", of("gone"))).unwrap();
    store.execute_batch(&format!("UPDATE visits SET body = x'00' {}", of("damaged"))).unwrap();

    let said = desk.desk("resume --json");

    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&document["runs"][0]["id"], &document["runs"][1]), (&json!("sound"), &json!(null)));
    let refused: Vec<&str> = document["refused"].as_array().unwrap().iter().filter_map(|why| why.as_str()).collect();
    assert!(refused[0].starts_with("run `damaged`: the store is damaged"), "{refused:?}");
    assert!(refused[1].contains("run `gone` cannot go on from step 0"), "{refused:?}");
    assert!(said.failed().starts_with("error: 2 of 3 runs did not get on; the first: run `damaged`"));
    assert_eq!((desk.status("gone"), desk.status("sound")), (Status::Running, Status::Paused));
}

/// Runs that cannot go on are named when the program starts, not when somebody has answered.
#[test]
fn resume_tells_of_parked_runs_whose_node_is_gone_and_of_flows_that_it_does_not_have() {
    let desk = Desk::with_runs();
    let store = rusqlite::Connection::open(desk.store()).unwrap();
    store
        .execute_batch(
            "UPDATE visits SET next = 'lost' WHERE next = 'approve'; UPDATE flows SET name = 'old' WHERE name = 'reminder'",
        )
        .unwrap();

    let said = desk.desk("resume");
    let document: serde_json::Value = serde_json::from_str(&desk.desk("resume --json").out).unwrap();
    let (listed, shown) = (desk.flowstone("runs list").ok(), desk.flowstone("runs show march").ok());

    assert!(said.out.contains("left as it was: 1 run of flow `old`, which this program does not have"), "{said:?}");
    assert!(said.failed().contains("run `march` cannot go on from step 2"));
    assert_eq!(document["unregistered"], json!([{ "flow": "old", "runs": 1 }]));
    assert!(document["refused"][0].as_str().unwrap().contains("no node `lost`"), "{document}");
    assert!(listed.contains("paused, cannot go on"), "{listed}");
    assert!(shown.contains("refused   run `march` cannot go on from step 2"), "{shown}");
    assert_eq!(desk.status("march"), Status::Paused);
    assert!(desk.json("runs show march")["run"]["refused"].is_string());
    // A run of a flow that the program does not have is cancelled and deleted all the same.
    desk.flowstone("runs cancel call").ok();
    desk.flowstone("runs delete call").ok();
}

#[test]
fn a_sleeper_goes_on_when_its_time_has_come() {
    let desk = Desk::empty();
    let asleep = desk.desk("run reminder --id call --state 2100").ok();
    assert!(asleep.contains("sleeping"), "{asleep}");

    let said = desk.desk("resume --wait --json").json();

    assert_eq!(said["runs"][0]["status"], "ended");
}

#[test]
fn an_answer_of_another_process_takes_effect_at_once() {
    let desk = Desk::with_runs();
    desk.desk("run invoice --id may").ok();
    let scan = desk.path("scan.pdf");
    let state = json!({ "lines": [7], "scan": scan });
    let driver = spawn(desk.desk_command("run invoice --id june").arg("--state").arg(state.to_string()));
    wait_until(|| desk.reader().run("june").is_ok());

    let locked = desk.desk("resume").failed();
    let answered = desk.json("runs answer may --node approve yes");
    wait_until(|| desk.status("may") == Status::Ended);
    assert_eq!(desk.status("june"), Status::Running);
    fs::write(scan, "").unwrap();

    assert!(squeezed(&said(driver).ok())[1].starts_with("june invoice paused 2 approve "));
    assert!(answered["driver"].is_u64(), "{answered}");
    assert!(locked.contains(&format!("is driven by process {}", answered["driver"])), "{locked}");
}

#[test]
fn waiting_drivers_see_runs_to_their_end() {
    let desk = Desk::empty();
    desk.desk(r#"run invoice --id may --state {"lines":[7]}"#).ok();
    let driver = spawn(&mut desk.desk_command("resume --wait --json"));
    wait_until(|| desk.reader().driver().unwrap().is_some());

    desk.flowstone("runs answer may --node approve no").ok();

    let said = said(driver).json();
    assert_eq!((&said["runs"][0]["id"], &said["runs"][0]["status"]), (&json!("may"), &json!("ended")));
}

#[test]
fn a_running_run_is_cancelled_by_another_process() {
    let desk = Desk::empty();
    let driver = spawn(&mut desk.desk_command(r#"run invoice --id may --state {"scan":"nowhere"}"#));
    wait_until(|| desk.reader_if_there().is_some_and(|reader| reader.run("may").is_ok()));

    desk.flowstone("runs cancel may").ok();

    assert_eq!(said(driver).failed(), "error: run `may` was cancelled");
    assert_eq!(desk.status("may"), Status::Cancelled);
}

/// Committed steps stay, and `resume` goes on from there.
#[cfg(unix)]
#[test]
fn signals_stop_cleanly() {
    for (signal, code, word) in
        [("-INT", 130, "interrupted: "), ("-TERM", 143, "terminated: "), ("-HUP", 129, "hung up: ")]
    {
        let desk = Desk::empty();
        let driver = spawn(&mut desk.desk_command(r#"run invoice --id may --state {"scan":"scan.pdf","lines":[3]}"#));
        wait_until(|| desk.reader_if_there().is_some_and(|reader| reader.run("may").is_ok()));

        let sent = Command::new("kill").args([signal, &driver.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let stopped = said(driver);
        fs::write(desk.path("scan.pdf"), "").unwrap();
        let resumed = desk.desk("resume --json").json();

        assert_eq!((stopped.code, &*stopped.out), (Some(code), ""), "{stopped:?}");
        assert!(stopped.err.starts_with(word), "{stopped:?}");
        assert_eq!((&resumed["runs"][0]["node"], &resumed["runs"][0]["step"]), (&json!("approve"), &json!(2)));
    }
}

/// A program that is started with `nohup` outlives its terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let desk = Desk::empty();
    let own = desk.desk_command(r#"run invoice --id may --state {"scan":"nowhere"}"#);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(own.get_program()).args(own.get_args());
    shell.env("FLOWSTONE_STORE", "desk.db").current_dir(desk.path(""));
    let driver = spawn(&mut shell);
    wait_until(|| desk.reader_if_there().is_some_and(|reader| reader.run("may").is_ok()));
    let kill = |signal: &str| Command::new("kill").args([signal, &driver.id().to_string()]).status().unwrap();

    kill("-HUP");
    kill("-TERM");

    assert_eq!(said(driver).code, Some(143));
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

fn wait_until(so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "it takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}
