//! One round: a deployer and what happens to it, its successor, and the check of what is left.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use deploykit::docker::HaProxy;
use deploykit::testing::load::{Load, Running};
use deploykit::{Deployer, Error, ErrorKind, LoadBalancer, Outcome, Result, Status};
use deploykit_testing::Tally;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::REPLICAS;
use crate::check::{Checker, Wrong};
use crate::daemon::Daemon;
use crate::deployer::{Order, Process};
use crate::deployment::How;
use crate::draw::{Draw, ERRORS, Kind};
use crate::site::Site;
use crate::watch::Watch;

const RATE: u32 = 100;
/// A deployer that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(150);
/// How long what was broken off in the Engine may take to come to its end.
const SETTLES: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of a round.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) wrong: Wrong,
    pub(crate) kills: u32,
    /// None where nothing began.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) needed_operator: bool,
    pub(crate) requests: u64,
    /// Those that should not have failed.
    pub(crate) failed: u64,
    /// Those that a version failed that is there to fail requests.
    pub(crate) failed_by_errors: u64,
    /// Those that failed while a part was out.
    pub(crate) failed_in_outage: u64,
    /// What the processes said, and the failures.
    pub(crate) story: String,
}

/// Where rounds are played.
pub(crate) struct Stage<'a> {
    pub(crate) site: &'a Site,
    pub(crate) haproxy: HaProxy,
    pub(crate) deployer: Deployer,
    pub(crate) repository: String,
    /// Whether the store is on a disk of its own, which can be filled.
    pub(crate) has_disk: bool,
    /// The Engine's, where nobody else uses it.
    pub(crate) daemon: Option<&'a mut Daemon>,
    pub(crate) load: Running,
    pub(crate) processes: u32,
}

pub(crate) async fn start_load(site: &Site, haproxy: &HaProxy) -> Result<Running> {
    let entry = haproxy.observe(&site.service).await?.entry;
    let load = Load::new(entry.map(|entry| entry.url).unwrap_or_default());
    load.with_rate(RATE).start().await
}

impl Stage<'_> {
    pub(crate) async fn play(&mut self, draw: &Draw) -> Result<Told> {
        let service = &self.site.service;
        let before = self.deployer.status(service).await?;
        let earlier = self.deployer.history(service).await?.len();
        let watch = Watch::keep(&self.site.bare, &self.haproxy, service);
        let mut told = Told::default();
        match draw.kind {
            Kind::Kill => self.kill(draw, &mut told).await?,
            Kind::Rivals => self.rivals(draw, &mut told).await?,
            Kind::Disk => self.fill_disk(draw, &mut told).await?,
            Kind::Balancer | Kind::Task | Kind::Daemon => self.outage(draw, &mut told).await?,
        }
        let again = draw.again.filter(|_| draw.kind == Kind::Kill);
        self.take_up(again, &mut told).await?;
        let mut outcome = self.outcome(earlier, draw, &mut told).await?;
        if outcome == Some(Outcome::NeedsOperator) {
            told.needed_operator = true;
            self.take_up(None, &mut told).await?;
            outcome = self.outcome(earlier, draw, &mut told).await?;
        }
        told.outcome = outcome.as_ref().map(Outcome::name);
        let tally = self.next_load(&mut told).await?;
        count(&tally, draw, &mut told);
        self.check(&before, outcome.as_ref(), &mut told).await?;
        let seen = watch.end().await?;
        if !draw.kind.is_outage() {
            bounds(draw, &before, (seen.least(), seen.most()), &mut told.wrong.texts);
        }
        Ok(told)
    }

    async fn kill(&mut self, draw: &Draw, told: &mut Told) -> Result<()> {
        let mut process = self.start(draw, "", None)?;
        if process.ends_within(draw.at).await? || !process.kill() {
            ended_well(&process, told);
        } else {
            told.kills += 1;
        }
        tell(&process, told);
        Ok(())
    }

    async fn rivals(&mut self, draw: &Draw, told: &mut Told) -> Result<()> {
        let (mut one, mut other) = (self.start(draw, "a", None)?, self.start(draw, "b", None)?);
        for process in [&mut one, &mut other] {
            self.end(process, told).await?;
        }
        let is_refused = |process: &Process| process.said().1["busy"] == true;
        let (first, second) = if is_refused(&one) { (&other, &one) } else { (&one, &other) };
        let word = second.said().1;
        let names_first = word["error"].as_str().is_some_and(|text| text.contains(&first.owner));
        if first.said().1["outcome"].is_null() || word["busy"] != true || !names_first {
            told.wrong.texts.push(format!(
                "of two deployers exactly one goes on, and the other is told that it is {}: {word}",
                first.owner
            ));
        }
        Ok(())
    }

    async fn fill_disk(&mut self, draw: &Draw, told: &mut Told) -> Result<()> {
        let limit = (!self.has_disk).then_some(16 + draw.left / 500);
        let mut process = self.start(draw, "", limit)?;
        if self.has_disk && !process.ends_within(draw.at).await? {
            let ballast = self.site.dir.join("store/ballast");
            fill(&ballast, draw.left).map_err(disk)?;
            let full_for = draw.full_for.unwrap_or(LONGEST);
            let has_ended = process.ends_within(full_for).await?;
            std::fs::remove_file(&ballast).map_err(disk)?;
            if !has_ended && draw.full_for.is_none() {
                told.wrong.texts.push("the deployer does not give up on a full disk".into());
            }
        }
        self.end(&mut process, told).await
    }

    pub(crate) fn start(
        &mut self,
        draw: &Draw,
        which: &str,
        file_limit: Option<u32>,
    ) -> Result<Process> {
        let order = Order {
            strategy: draw.strategy,
            image: format!("{}:{}", self.repository, draw.tag),
            version: format!("{}{which}", draw.version()),
            holds: draw.holds,
            has_job: draw.has_job,
            goes_on: draw.goes_on,
        };
        let owner = self.owner();
        Process::start(self.site, owner, Some(&order), file_limit)
    }

    fn owner(&mut self) -> String {
        self.processes += 1;
        format!("deployer-{}", self.processes)
    }

    /// Awaits the end of a deployer, which must not hang.
    pub(crate) async fn end(&self, process: &mut Process, told: &mut Told) -> Result<()> {
        if !process.ends_within(LONGEST).await? {
            told.wrong.texts.push(format!("{} has not ended after {LONGEST:?}", process.owner));
            process.kill();
        }
        tell(process, told);
        Ok(())
    }

    /// The next deployer takes up what is open, and settles what is due. It may be killed, too.
    async fn take_up(&mut self, again: Option<Duration>, told: &mut Told) -> Result<()> {
        if let Some(at) = again {
            let mut process = Process::start(self.site, self.owner(), None, None)?;
            if !process.ends_within(at).await? && process.kill() {
                told.kills += 1;
            }
            tell(&process, told);
        }
        let mut process = Process::start(self.site, self.owner(), None, None)?;
        self.end(&mut process, told).await?;
        let word = process.said().1;
        if word.get("recovered").is_none() {
            told.wrong.texts.push(format!("{} cannot take up what is left: {word}", process.owner));
        }
        Ok(())
    }

    /// How the rollout of this round ended, by the history.
    async fn outcome(
        &self,
        earlier: usize,
        draw: &Draw,
        told: &mut Told,
    ) -> Result<Option<Outcome>> {
        let history = self.deployer.history(&self.site.service).await?;
        if history.len() > earlier + 1 {
            let count = history.len() - earlier;
            told.wrong.texts.push(format!("{count} rollouts began where one was asked for"));
        }
        let outcome = history.get(earlier..).and_then(<[_]>::last).and_then(|p| p.outcome.clone());
        if outcome == Some(Outcome::Promoted) && draw.is_bad() {
            told.wrong.texts.push(format!("a version that is bad ({}) was promoted", draw.tag));
        }
        Ok(outcome)
    }

    /// Puts the load on anew without a pause, and gives what became of all requests of the one before.
    pub(crate) async fn next_load(&mut self, told: &mut Told) -> Result<Tally> {
        let next = start_load(self.site, &self.haproxy).await?;
        let report = std::mem::replace(&mut self.load, next).stop().await;
        let (late, latency) = (report.late_ms, report.latency);
        told.story.push_str(&format!("load: {late} ms late at most, {latency:?}\n"));
        Ok(report.tally)
    }

    /// Looks until all is well, or has had its time to be.
    async fn check(
        &self,
        before: &Status,
        outcome: Option<&Outcome>,
        told: &mut Told,
    ) -> Result<()> {
        let Self { site, haproxy, deployer, .. } = self;
        let checker = Checker { site, haproxy, deployer };
        let until = Instant::now() + SETTLES;
        loop {
            let wrong = checker.look(before, outcome).await?;
            if wrong.is_nothing() || Instant::now() >= until {
                told.wrong.texts.extend(wrong.texts);
                told.wrong.unowned.extend(wrong.unowned);
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Keeps what a process said.
fn tell(process: &Process, told: &mut Told) {
    told.story.push_str(&format!("--- {}\n{}\n", process.owner, process.said().0.trim_end()));
}

/// A deployer that nobody disturbed has an outcome.
fn ended_well(process: &Process, told: &mut Told) {
    let word = process.said().1;
    if word["outcome"].is_null() {
        told.wrong.texts.push(format!("{} failed by itself: {word}", process.owner));
    }
}

/// Sorts failed requests into those that may fail and those that may not.
pub(crate) fn count(tally: &Tally, draw: &Draw, told: &mut Told) {
    let by_errors = if draw.tag == ERRORS { tally.failures_of(draw.version()) } else { 0 };
    told.requests += tally.requests;
    told.failed_by_errors += by_errors;
    told.failed += tally.failed - by_errors;
    if tally.failed > by_errors {
        told.wrong.texts.push(format!("requests failed: {tally}"));
    }
}

/// Fewer tasks than the service is to have must never serve; and more than the strategy needs must never be there.
fn bounds(draw: &Draw, before: &Status, (least, most): (u32, u32), wrong: &mut Vec<String>) {
    let more = if draw.strategy == How::Rolling { REPLICAS.div_ceil(4) } else { REPLICAS };
    let held = if before.held.is_some() { REPLICAS } else { 0 };
    let allowed = REPLICAS + more + held;
    if least < REPLICAS || most > allowed {
        wrong.push(format!(
            "{least} to {most} tasks were there, {REPLICAS} to {allowed} are allowed"
        ));
    }
}

/// Fills the disk that a file is on, but for some bytes.
fn fill(ballast: &PathBuf, left: u32) -> std::io::Result<()> {
    let mut file = File::create(ballast)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    let full = file.metadata()?.len();
    file.set_len(full.saturating_sub(left.into()))
}

fn disk(why: std::io::Error) -> Error {
    Error::new(ErrorKind::Other, "the disk of the store cannot be filled").with_source(why)
}

/// For the record, with what the processes said last.
pub(crate) fn last_words(story: &str) -> impl Iterator<Item = &str> {
    story.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object()))
}
