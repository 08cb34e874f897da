//! Every example prints what is in `expected/`; `UPDATE_EXPECT=1` writes it anew.
//!
//! One fact a test: the example of that name, run as its own process, ends well and prints the lines of its file.
//! `cargo test -p flowstone-examples --all-features` builds the examples first; with `--test outputs` besides it does
//! not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Runs an example without a terminal, which `cargo test` has built beside this test.
fn run(name: &str, arguments: &[&str]) -> Output {
    let this = env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    let program = profile.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
    command.output().unwrap_or_else(|error| panic!("{} does not run: {error}", program.display()))
}

/// Runs an example, and compares what it prints with `expected/FILE.txt`.
#[track_caller]
fn expect(file: &str, name: &str, arguments: &[&str]) {
    let output = run(name, arguments);

    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?} ended with {}:\n{errors}", output.status);
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "expected", &format!("{file}.txt")].iter().collect();
    compare(&String::from_utf8(output.stdout).unwrap(), &path);
}

#[track_caller]
fn compare(printed: &str, path: &Path) {
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, printed).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
    assert_eq!(printed, expected, "see {}; UPDATE_EXPECT=1 writes it anew", path.display());
}

#[test]
fn seed_weather_prints_the_lines_of_the_seed() {
    expect("seed_weather", "seed_weather", &["--wait-ms", "20"]);
}

#[test]
fn two_seed_runs_wait_at_the_same_time() {
    let output = run("seed_weather", &["--runs", "2", "--wait-ms", "200"]);

    let printed = String::from_utf8(output.stdout).unwrap();
    let line = |text: &str| printed.lines().position(|line| line.ends_with(text)).unwrap();
    let last_call = line("Calling weather API for London...").max(line("Calling weather API for Paris..."));
    let first_answer = line("Got weather: Sunny in London").min(line("Got weather: Sunny in Paris"));
    assert!(last_call < first_answer, "one run waited for the other:\n{printed}");
}

#[test]
fn weather_shows_a_table_whatever_the_failures_of_its_service() {
    expect("weather", "weather", &["London", "Paris", "Tokyo", "sao paulo", "--delay-ms", "5"]);
    expect("weather", "weather", &["London", "Paris", "Tokyo", "sao paulo", "--delay-ms", "5", "--failures", "20"]);
}

#[test]
fn weather_gives_json_to_programs() {
    expect("weather_json", "weather", &["--json", "Oslo", "--delay-ms", "5"]);
}

#[test]
fn agent_loop_searches_until_it_can_answer() {
    expect("agent_loop", "agent_loop", &[]);
}

#[test]
fn supervisor_rejects_bad_answers() {
    expect("supervisor", "supervisor", &[]);
}

#[test]
fn supervisor_draws_its_flow() {
    expect("supervisor_mermaid", "supervisor", &["--mermaid"]);
}

#[test]
fn batch_csv_sums_up_a_file() {
    expect("batch_csv", "batch_csv", &[]);
}

#[test]
fn batch_csv_names_the_line_that_is_no_sale() {
    let folder = folder("batch_csv");
    let file = folder.join("bad.csv");
    fs::write(&file, "date,product,quantity,price\n2026-01-05,tea,3,4.50\n2026-01-05,tea,three,4.50\n").unwrap();

    let output = run("batch_csv", &[file.to_str().unwrap()]);

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("line 3 is no sale: `2026-01-05,tea,three,4.50`"), "{errors}");
}

#[test]
fn translate_keeps_the_order_of_the_languages() {
    expect("translate", "translate", &[]);
}

#[test]
fn images_applies_each_filter_to_each_image() {
    expect("images", "images", &[]);
}

#[test]
fn images_reads_and_writes_files() {
    let folder = folder("images");
    let given = folder.join("dot.png");
    image::RgbImage::from_pixel(3, 2, image::Rgb([200, 100, 50])).save(&given).unwrap();

    let output = run("images", &["--out", folder.to_str().unwrap(), given.to_str().unwrap()]);

    assert!(output.status.success());
    let gray = image::open(folder.join("dot_grayscale.png")).unwrap().into_rgb8();
    assert_eq!((gray.dimensions(), gray.get_pixel(0, 0).0), ((3, 2), [124; 3]));
}

#[test]
fn images_says_which_file_is_no_image() {
    let output = run("images", &["no_such_file.png"]);

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("no_such_file.png is no image"), "{errors}");
}

#[test]
fn school_grades_students_within_classes() {
    expect("school", "school", &[]);
}

#[test]
fn approve_sends_what_a_person_approves() {
    expect("approve", "approve", &["--answer", "no", "--answer", "yes"]);
}

#[test]
fn approve_sends_nothing_that_is_rejected() {
    expect("approve_no", "approve", &["--answer", "no"]);
}

#[test]
fn approve_says_that_there_is_nobody_to_ask() {
    let output = run("approve", &[]);

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("nobody to ask: Send “Pay at once!”?"), "{errors}");
}

/// A folder in cargo's own for tests, new for each name.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}
