//! `new`: the project that it writes compiles, its tests pass, and its run survives a kill, as the guide's first page
//! says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use flowstone_durable::{Reader, Status};

use crate::common::Desk;

/// The guide's first page.
const PAGE: &str = include_str!("../../../../docs/guide/five-minutes.md");

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A project that `flowstone new` has written, beside whatever other tests build.
struct Project {
    folder: PathBuf,
}

impl Project {
    /// Writes the project anew in a folder that stays, so that what was compiled for it once is found again.
    fn new() -> Self {
        let around = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new");
        let folder = around.join("digest");
        fs::create_dir_all(&around).unwrap();
        let _ = fs::remove_dir_all(&folder);
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowstone"));
        let output = command.args(["new", "digest", "--path"]).arg(checkout()).current_dir(&around).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        // The versions that this workspace has: nothing is to be downloaded.
        fs::copy(checkout().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        Self { folder }
    }

    /// Calls cargo as this workspace's tests are built: with their profile, so that it finds most of it compiled.
    fn cargo(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO"));
        command.arg(arguments[0]).arg("--offline").args(&arguments[1..]).current_dir(&self.folder);
        command.env("CARGO_TARGET_DIR", self.target()).env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        command.env_remove("FLOWSTONE_STORE").stdin(Stdio::null()).output().unwrap()
    }

    fn target(&self) -> PathBuf {
        Path::new(env!("CARGO_BIN_EXE_flowstone")).ancestors().nth(2).unwrap().to_owned()
    }

    /// The program, as `cargo run -- …` calls it.
    fn program(&self, line: &str) -> Command {
        let profile = Path::new(env!("CARGO_BIN_EXE_flowstone")).parent().unwrap();
        let mut command = Command::new(profile.join("digest").with_extension(std::env::consts::EXE_EXTENSION));
        command.args(line.split_whitespace()).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn said(&self, line: &str) -> String {
        let output = self.program(line).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{line}: {said}");
        said
    }

    fn reader(&self) -> Option<Reader> {
        Reader::open(self.folder.join("digest.db")).ok()
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "a minute has gone by before {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of the page's blocks of a kind.
fn blocks(kind: &str) -> Vec<String> {
    let fence = format!("```{kind}");
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines();
    while lines.any(|line| line == fence) {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
    }
    blocks
}

#[test]
fn the_page_shows_the_code_that_is_written() {
    let code = blocks("rust,no_run,standalone_crate");

    assert_eq!(code, [include_str!("../../template/src/main.rs").trim_end()]);
}

#[test]
fn a_new_project_does_what_the_page_says() {
    let commands: Vec<String> = blocks("sh").join("\n").lines().map(str::to_owned).collect();
    assert_eq!(
        commands,
        [
            "cargo install --path flowstone/crates/cli",
            "flowstone new digest --path flowstone",
            "cd digest",
            "cargo test",
            "cargo run -- run digest --id monday --store digest.db",
            "cargo run -- run digest --id monday --store digest.db",
            "cargo run -- runs answer monday true --store digest.db",
            "cargo run -- resume --store digest.db",
            "cargo run -- runs show monday --store digest.db",
        ]
    );
    let project = Project::new();

    let tested = project.cargo(&["test"]);
    let tests = String::from_utf8_lossy(&tested.stdout).into_owned();
    assert!(tests.contains("2 passed"), "{tests}{}", String::from_utf8_lossy(&tested.stderr));
    assert!(project.cargo(&["build"]).status.success());

    let run = "run digest --id monday --store digest.db";
    let mut first: Child = project.program(run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let done = || project.reader().and_then(|reader| reader.items_done("monday").ok()).unwrap_or_default();
    until("two topics are read", || done() >= 2);
    first.kill().unwrap();
    first.wait().unwrap();
    let kept = done();
    let second = project.said(run);

    let items = project.reader().unwrap().steps("monday", 1, 1).unwrap().remove(0).items.unwrap();
    assert_eq!((items.recorded, items.recalled), (8, kept));
    let answer = "digest runs answer monday --node approve --step 2 true --store digest.db";
    assert!(second.contains(answer), "{second}");
    project.said("runs answer monday true --store digest.db");
    assert!(project.said("resume --store digest.db").contains("ended"));
    assert!(project.said("runs show monday --store digest.db").contains("approve"));
    let reader = project.reader().unwrap();
    assert_eq!(reader.run("monday").unwrap().status, Status::Ended);
    assert_eq!(reader.state("monday", None).unwrap()["sent"], true);
}

/// Calls `flowstone new` in an empty folder.
fn new(desk: &Desk, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowstone"));
    let output = command.arg("new").args(arguments).current_dir(desk.path("")).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_name_that_cargo_would_refuse_is_refused() {
    let desk = Desk::empty();

    for (name, why) in [
        ("fn", "it is a keyword of Rust"),
        ("9lives", "it begins with a letter"),
        ("a/b", "it may have letters, digits, `-` and `_`"),
        ("grüße", "it may have letters, digits, `-` and `_`"),
        ("", "it is empty"),
        ("flowstone", "cargo or the project has another use for it"),
        ("serde-json", "cargo or the project has another use for it"),
    ] {
        let said = new(&desk, &[name]);
        assert_eq!(said, (Some(1), format!("error: `{name}` cannot be the name of a package: {why}\n")));
    }
    assert_eq!(new(&desk, &["-x"]).0, Some(2));
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 0);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let desk = Desk::empty();
    fs::create_dir_all(desk.path("full")).unwrap();
    fs::write(desk.path("full/letter.txt"), "mine").unwrap();
    fs::write(desk.path("file"), "mine").unwrap();
    fs::create_dir(desk.path("empty")).unwrap();

    let refused = |name: &str| format!("error: the folder `{name}` is there already, and not empty\n");
    assert_eq!(new(&desk, &["full"]), (Some(1), refused("full")));
    assert_eq!(new(&desk, &["file"]), (Some(1), refused("file")));
    assert_eq!(fs::read_dir(desk.path("full")).unwrap().count(), 1);
    assert_eq!(new(&desk, &["empty"]).0, Some(0));
    assert!(desk.path("empty/src/main.rs").is_file());
}

#[test]
fn without_a_path_the_project_takes_the_published_version() {
    let desk = Desk::empty();

    let said = new(&desk, &["daily-news"]);
    let nowhere = new(&desk, &["other", "--path", "nowhere"]);

    assert!(said.1.contains("  cd daily-news\n  cargo test\n"), "{}", said.1);
    let manifest = fs::read_to_string(desk.path("daily-news/Cargo.toml")).unwrap();
    assert!(
        manifest.contains(concat!("flowstone = { version = \"", env!("CARGO_PKG_VERSION"), "\", features")),
        "{manifest}"
    );
    assert!(manifest.contains("name = \"daily-news\"") && !manifest.contains("[workspace]"), "{manifest}");
    assert_eq!(nowhere.1, "error: `nowhere` is no checkout of flowstone: it has no `crates/flowstone`\n");
}

#[test]
fn a_program_with_flows_of_its_own_writes_no_projects() {
    let desk = Desk::empty();

    assert!(desk.flowstone("help").ok().contains("\n  new "));
    assert!(!desk.desk("help").ok().contains("\n  new "));
}
