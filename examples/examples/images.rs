//! Images × filters as a batch flow: for each pair a flow of its own loads, filters and saves, four at once.
//!
//! ```text
//! cargo run --release --features images --example images    # three images made here, into a temporary folder
//! cargo run --release --features images --example images -- --out folder a.png b.png
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it shows")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Parser;
use flowstone::{BuildError, prelude::*};
use image::{Rgb, RgbImage, imageops};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Args {
    /// PNG files; without any, three images are made
    files: Vec<PathBuf>,
    /// The folder for the results; without it a temporary one, which is removed at the end
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Filter {
    Grayscale,
    Blur,
    Sepia,
}

/// The state of the flow over one image and one filter.
struct Job {
    input: PathBuf,
    filter: Filter,
    output: PathBuf,
    image: Option<Arc<RgbImage>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Gallery {
    inputs: Vec<PathBuf>,
    out: PathBuf,
    /// The results, in the order of the images.
    outputs: Vec<PathBuf>,
}

struct Load;

#[node]
impl Load {
    fn prep(&self, job: &Job) -> PathBuf {
        job.input.clone()
    }

    fn exec(&self, input: &Path) -> Result<RgbImage> {
        let image = image::open(input).map_err(|error| format!("{} is no image: {error}", input.display()))?;
        Ok(image.into_rgb8())
    }

    fn post(&self, job: &mut Job, _input: PathBuf, image: RgbImage) {
        job.image = Some(Arc::new(image));
    }
}

struct Apply;

#[node]
impl Apply {
    fn prep(&self, job: &Job) -> Result<(Arc<RgbImage>, Filter)> {
        Ok((job.image.clone().ok_or("no image is loaded")?, job.filter))
    }

    fn exec(&self, prep: &(Arc<RgbImage>, Filter)) -> RgbImage {
        let (image, filter) = prep;
        match filter {
            Filter::Grayscale => map(image, |[r, g, b]| [(299 * r + 587 * g + 114 * b) / 1000; 3]),
            Filter::Sepia => map(image, |[r, g, b]| {
                let tone = |r_part, g_part, b_part| (r_part * r + g_part * g + b_part * b) / 1000;
                [tone(393, 769, 189), tone(349, 686, 168), tone(272, 534, 131)]
            }),
            Filter::Blur => imageops::blur(&**image, 2.0),
        }
    }

    fn post(&self, job: &mut Job, _prep: (Arc<RgbImage>, Filter), image: RgbImage) {
        job.image = Some(Arc::new(image));
    }
}

struct Save;

#[node]
impl Save {
    fn prep(&self, job: &Job) -> Result<(Arc<RgbImage>, PathBuf)> {
        Ok((job.image.clone().ok_or("no image is loaded")?, job.output.clone()))
    }

    fn exec(&self, prep: &(Arc<RgbImage>, PathBuf)) -> Result<()> {
        let (image, output) = prep;
        image.save(output).map_err(|error| format!("{} cannot be written: {error}", output.display()))?;
        Ok(())
    }
}

fn map(image: &RgbImage, color: impl Fn([u32; 3]) -> [u32; 3]) -> RgbImage {
    let mut image = image.clone();
    for Rgb(pixel) in image.pixels_mut() {
        *pixel = color(pixel.map(u32::from)).map(|value| u8::try_from(value).unwrap_or(u8::MAX));
    }
    image
}

fn job_flow() -> Result<AsyncFlow<Job>, BuildError> {
    let mut flow = AsyncFlow::builder("job");
    let load = flow.add("load", Load);
    let apply = flow.add("apply", Apply);
    let save = flow.add("save", Save);
    flow.start(load);
    flow.route(load >> apply >> save);
    flow.build()
}

fn fork(gallery: &Gallery) -> Vec<Job> {
    let filters = [("grayscale", Filter::Grayscale), ("blur", Filter::Blur), ("sepia", Filter::Sepia)];
    let pairs = gallery.inputs.iter().flat_map(|input| filters.iter().map(move |filter| (input, filter)));
    let job = |(input, (name, filter)): (&PathBuf, &(&str, Filter))| {
        let stem = input.file_stem().unwrap_or_default().to_string_lossy();
        let output = gallery.out.join(format!("{stem}_{name}.png"));
        Job { input: input.clone(), filter: *filter, output, image: None }
    };
    pairs.map(job).collect()
}

fn join(gallery: &mut Gallery, jobs: Vec<Job>) {
    gallery.outputs = jobs.into_iter().map(|job| job.output).collect();
}

pub(crate) fn flow() -> Result<AsyncFlow<Gallery>, BuildError> {
    let mut flow = AsyncFlow::builder("gallery");
    let jobs = flow.add("jobs", job_flow()?.batch(fork, join).parallel(4));
    flow.start(jobs);
    flow.build()
}

/// The state to start with: three images that are made in a folder, where their results go, too.
pub(crate) fn made_in(folder: &Path) -> anyhow::Result<Gallery> {
    Ok(Gallery { inputs: make_images(folder)?, out: folder.to_owned(), outputs: Vec::new() })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let temporary = std::env::temp_dir().join(format!("flowstone-images-{}", std::process::id()));
    let out = args.out.clone().unwrap_or_else(|| temporary.clone());
    fs::create_dir_all(&out).with_context(|| format!("the folder {} cannot be made", out.display()))?;

    let result = run(args.files, out).await;

    if args.out.is_none() {
        fs::remove_dir_all(&temporary)?;
    }
    result
}

async fn run(files: Vec<PathBuf>, out: PathBuf) -> anyhow::Result<()> {
    let made = files.is_empty();
    let mut gallery = if made { made_in(&out)? } else { Gallery { inputs: files, out, outputs: Vec::new() } };
    flow()?.run_async(&mut gallery).await?;
    for output in &gallery.outputs {
        let saved = image::open(output)?.into_rgb8();
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        println!("{name:<24} {}×{} checksum {:08x}", saved.width(), saved.height(), checksum(saved.as_raw()));
    }
    Ok(())
}

/// Makes three small images: a slope, rings, and a board.
fn make_images(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shade = |value: u32| u8::try_from(value % 256).unwrap_or(u8::MAX);
    let slope = RgbImage::from_fn(96, 64, |x, y| Rgb([shade(x * 2), shade(y * 3), 96]));
    let rings = RgbImage::from_fn(64, 64, |x, y| {
        let (x, y) = (x.abs_diff(32), y.abs_diff(32));
        Rgb([shade(x * x + y * y), 32, shade(x * y)])
    });
    let board = RgbImage::from_fn(48, 80, |x, y| if (x / 8 + y / 8) % 2 == 0 { Rgb([240; 3]) } else { Rgb([16; 3]) });

    let mut files = Vec::new();
    for (name, image) in [("slope", slope), ("rings", rings), ("board", board)] {
        let file = folder.join(format!("{name}.png"));
        image.save(&file)?;
        files.push(file);
    }
    Ok(files)
}

/// FNV-1a: enough to see that two images are the same.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
