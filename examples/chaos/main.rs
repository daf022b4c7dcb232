//! Kills deployers at random moments, on a real Engine under load, and looks what their successors make of it.
//!
//! It is run by `cargo xtask chaos`. One process holds the site, the load and the checks; the deployers are processes of
//! their own, which are killed. The machine's Engine is left alone, for others may use it: outages are played on another.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that says what it does")]
#![allow(clippy::indexing_slicing, reason = "a JSON value answers null for what it does not have")]

mod check;
mod daemon;
mod deployer;
#[path = "../docker/deployment.rs"]
mod deployment;
#[path = "../../simulation/src/dice.rs"]
#[allow(clippy::unwrap_used, reason = "it is a test's; the numbers here are small")]
mod dice;
mod draw;
#[path = "../shared/engine.rs"]
mod engine;
#[path = "../shared/json.rs"]
#[allow(dead_code, reason = "rollouts are told otherwise here")]
mod json;
mod outage;
mod round;
#[path = "../shared/site.rs"]
mod site;
#[path = "../docker/watch.rs"]
#[allow(dead_code, reason = "shared with the example docker, which tells more of it")]
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use deploykit::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use daemon::Daemon;
use deployer::{Order, Process};
use deployment::How;
use draw::{Draw, IMAGES, Kind};
use round::{Stage, Told, last_words, start_load};
use site::Site;

/// How many tasks the service has.
const REPLICAS: u32 = 3;
/// The disk of the store, where it can have one of its own.
const DISK: &str = "size=8m,mode=0700";
/// A site at which something is wrong is given up; after so many of them there is enough to look at.
const WRONG_SITES: u32 = 5;

const HELP: &str = "\
Kills deployers of a real service at random moments, under load, and checks what
their successors make of it. Needs what `cargo xtask parts` makes.

  --kills N    so many; 40 by default
  --seed S     draw the rounds of this seed once more
  --outages N  instead, on an Engine of its own: restart HAProxy, kill a task and
               restart the Engine's daemon, so many times each
  --json       one object as the last line
  --help       this text

Exit codes: 0 all well, 1 something was wrong or failed, 2 the command line cannot be read.
";

struct Options {
    kills: u32,
    outages: u32,
    seed: u64,
    json: bool,
}

/// None for a command line that cannot be read.
fn options(words: &[String]) -> Option<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = u64::from(now.subsec_micros());
    let mut options = Options { kills: 40, outages: 0, seed, json: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kills" => options.kills = words.next()?.parse().ok()?,
            "--seed" => options.seed = words.next()?.parse().ok()?,
            "--outages" => (options.outages, options.kills) = (words.next()?.parse().ok()?, 0),
            "--json" => options.json = true,
            _ => return None,
        }
    }
    Some(options)
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((deployer::ROLE, words)) = words.split_first().map(|(role, rest)| (&**role, rest)) {
        println!("{}", deployer::run(words).await);
        return ExitCode::SUCCESS;
    }
    let (inside, words) = match words.split_at_checked(3) {
        Some(([role, dir, driver], words)) if role == daemon::ROLE => (Some((dir, driver)), words),
        _ => (None, &*words),
    };
    if words.iter().any(|word| word == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some(options) = options(words) else {
        eprintln!("{} is not understood; --help shows all options", words.join(" "));
        return ExitCode::from(2);
    };
    match (inside, options.outages) {
        (None, 0) => tell(&options, None).await,
        (None, _) => daemon::enter(words).await.unwrap_or_else(failure),
        (Some((dir, driver)), _) => match Daemon::start(dir, driver).await {
            Ok(mut daemon) => tell(&options, Some(&mut daemon)).await,
            Err(error) => failure(error),
        },
    }
}

fn failure(error: Error) -> ExitCode {
    eprintln!("error: {}", error.report());
    ExitCode::FAILURE
}

/// Plays, and says what came of it.
async fn tell(options: &Options, daemon: Option<&mut Daemon>) -> ExitCode {
    let began = Instant::now();
    println!("seed {}, {} kills, {} of each outage", options.seed, options.kills, options.outages);
    let mut sums = Sums::default();
    let ran = run(options, daemon, &mut sums).await;
    if let Err(error) = &ran {
        eprintln!("error: {}", error.report());
    }
    println!("{}", sums.text());
    if options.json {
        let mut all = sums.json();
        all["seed"] = options.seed.into();
        all["seconds"] = began.elapsed().as_secs().into();
        all["error"] = json!(ran.as_ref().err().map(Error::report));
        println!("{all}");
    }
    if ran.is_ok() && sums.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of all rounds.
#[derive(Default)]
struct Sums {
    kills: u32,
    violations: usize,
    unowned: usize,
    needed_operator: u32,
    requests: u64,
    failed: u64,
    failed_by_errors: u64,
    failed_in_outages: u64,
    rounds: BTreeMap<String, u32>,
    strategies: BTreeMap<String, u32>,
    outcomes: BTreeMap<String, u32>,
}

impl Sums {
    fn add(&mut self, draw: &Draw, told: &Told) {
        self.kills += told.kills;
        self.violations += told.wrong.texts.len() + told.wrong.unowned.len();
        self.unowned += told.wrong.unowned.len();
        self.needed_operator += u32::from(told.needed_operator);
        self.requests += told.requests;
        self.failed += told.failed;
        self.failed_by_errors += told.failed_by_errors;
        self.failed_in_outages += told.failed_in_outage;
        *self.rounds.entry(draw.kind.to_string()).or_default() += 1;
        *self.strategies.entry(draw.strategy.to_string()).or_default() += 1;
        *self.outcomes.entry(told.outcome.unwrap_or("not_begun").to_owned()).or_default() += 1;
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "kills": self.kills,
            "violations": self.violations,
            "failed_requests": self.failed,
            "unowned": self.unowned,
            "needed_operator": self.needed_operator,
            "requests": self.requests,
            "failed_by_errors_version": self.failed_by_errors,
            "failed_in_outages": self.failed_in_outages,
            "rounds": self.rounds,
            "strategies": self.strategies,
            "outcomes": self.outcomes,
        })
    }

    fn text(&self) -> String {
        format!(
            "{} kills; {} requests: {} failed, beside them {} by versions that fail requests and {} in outages; \
             {} violations, {} of them containers or targets that nobody owns",
            self.kills,
            self.requests,
            self.failed,
            self.failed_by_errors,
            self.failed_in_outages,
            self.violations,
            self.unowned
        )
    }
}

/// Plays all rounds, on a new site whenever something was wrong at the last one.
async fn run(options: &Options, mut daemon: Option<&mut Daemon>, sums: &mut Sums) -> Result<()> {
    let outages = [Kind::Daemon, Kind::Balancer, Kind::Task].repeat(options.outages as usize);
    let mut rounds = Rounds { seed: options.seed, number: 0, kills: options.kills, outages };
    for _ in 0..WRONG_SITES {
        let site = Site::choose().await?;
        let has_disk = give_disk(&site.dir.join("store"));
        let played = tokio::select! {
            played = play(&site, has_disk, daemon.as_deref_mut(), &mut rounds, sums) => played,
            by = asked_to_end() => Err(Error::new(ErrorKind::Other, format!("ended by {by}"))),
        };
        if has_disk {
            // By now nobody uses it, unless this was cut short.
            let _ = Command::new("umount").arg("-l").arg(site.dir.join("store")).status();
        }
        let cleaned = site.clean().await;
        if played? {
            return cleaned;
        }
        cleaned?;
    }
    Err(Error::new(ErrorKind::Other, format!("{WRONG_SITES} sites had violations; that is enough")))
}

/// The rounds that are still to come.
struct Rounds {
    seed: u64,
    number: u32,
    kills: u32,
    outages: Vec<Kind>,
}

impl Rounds {
    fn next(&mut self, killed: u32) -> Option<Draw> {
        let outage = if killed < self.kills { None } else { Some(self.outages.pop()?) };
        self.number += 1;
        Some(Draw::new(self.seed, self.number, outage))
    }
}

/// Plays rounds at a site. False when one of them went wrong.
async fn play(
    site: &Site,
    has_disk: bool,
    daemon: Option<&mut Daemon>,
    rounds: &mut Rounds,
    sums: &mut Sums,
) -> Result<bool> {
    let haproxy = site.start_haproxy().await?;
    let deployer = deployment::deployer(site, &haproxy)?;
    let repository = site.start_registry(&IMAGES).await?;
    let image = format!("{repository}:good");
    let (strategy, version) = (How::BlueGreen, "v0".to_owned());
    let (holds, has_job, goes_on) = (false, false, false);
    let first = Order { strategy, image, version, holds, has_job, goes_on };
    let mut process = Process::start(site, "deployer-0".into(), Some(&first), None)?;
    process.ends_within(std::time::Duration::from_secs(120)).await?;
    let (said, word) = process.said();
    if word["outcome"] != "promoted" {
        let what = format!("the first version is not there: {said}");
        return Err(Error::new(ErrorKind::Other, what));
    }
    let load = start_load(site, &haproxy).await?;
    let mut stage =
        Stage { site, haproxy, deployer, repository, has_disk, daemon, load, processes: 0 };
    while let Some(draw) = rounds.next(sums.kills) {
        let began = Instant::now();
        let told = stage.play(&draw).await?;
        sums.add(&draw, &told);
        println!(
            "{draw} | {} kills, {}, {} requests, {} failed ({} by errors, {} in outage), {:.1} s",
            told.kills,
            told.outcome.unwrap_or("not begun"),
            told.requests,
            told.failed,
            told.failed_by_errors,
            told.failed_in_outage,
            began.elapsed().as_secs_f64()
        );
        if !told.wrong.is_nothing() {
            tell_wrong(site, rounds.seed, &draw, &told);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Prints what is wrong, and keeps the site's files: store, logs of the deployers, configuration of HAProxy.
fn tell_wrong(site: &Site, seed: u64, draw: &Draw, told: &Told) {
    for text in told.wrong.texts.iter().chain(&told.wrong.unowned) {
        println!("VIOLATION in round {} of seed {seed}: {text}", draw.number);
    }
    for word in last_words(&told.story) {
        println!("    | {word}");
    }
    let kept = std::env::temp_dir().join(format!("deploykit-chaos-{seed}-{}", draw.number));
    let copied = Command::new("cp").arg("-r").arg(&site.dir).arg(&kept).status();
    let story = format!("{draw}\n{:#?}\n{}\n", told.wrong, told.story);
    let written = std::fs::write(kept.join("story.txt"), story);
    println!("    store, logs and what was said: {} ({copied:?}, {written:?})", kept.display());
}

/// Gives the store a disk of its own, which can be full. That needs root; without it files are limited in size.
fn give_disk(store: &Path) -> bool {
    let is_made = std::fs::create_dir_all(store).is_ok();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", DISK, "deploykit-chaos"]).arg(store);
    is_made && mount.output().is_ok_and(|done| done.status.success())
}

async fn asked_to_end() -> &'static str {
    let caught = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = caught else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    }
}
