//! A process that deploys, or takes up what a dead one left. It makes nothing of the site, and nobody cares for its end.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deploykit::{Change, Error, ErrorKind, Job, OnOrphan, Point, Result, Rollout, Step};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::deployment::{self, How};
use crate::site::Site;

/// The word that makes this program a deployer.
pub(crate) const ROLE: &str = "deployer";
const RECOVER: &str = "recover";
/// How long a place is kept after the promotion, where it is: sometimes it is due before the round ends, sometimes not.
const HOLD: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is deployed, and how.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) strategy: How,
    pub(crate) image: String,
    pub(crate) version: String,
    /// The old place is held for a moment.
    pub(crate) holds: bool,
    /// A job runs before the new tasks start.
    pub(crate) has_job: bool,
    /// A successor goes on, and does not undo.
    pub(crate) goes_on: bool,
}

/// A deployer that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) owner: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Process {
    /// Starts a deployer with an order; without one it takes up what is open. `file_limit` is the size in blocks that no
    /// file of it may exceed.
    pub(crate) fn start(
        site: &Site,
        owner: String,
        order: Option<&Order>,
        file_limit: Option<u32>,
    ) -> Result<Self> {
        let words = match order {
            None => vec![RECOVER.to_owned()],
            Some(order) => {
                let flags =
                    [order.holds, order.has_job, order.goes_on].map(|flag| flag.to_string());
                let words =
                    [order.strategy.to_string(), order.image.clone(), order.version.clone()];
                words.into_iter().chain(flags).collect()
            }
        };
        let log = site.dir.join(format!("{owner}.log"));
        let failed =
            |why| Error::new(ErrorKind::Other, "no deployer can be started").with_source(why);
        let this = std::env::current_exe().map_err(failed)?;
        let mut command = match file_limit {
            None => Command::new(this),
            Some(blocks) => {
                // A signal that is ignored stays so: writing too much fails then, and does not end the process.
                let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(limited).arg(this);
                shell
            }
        };
        let output = File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let child = command
            .args([ROLE, &site.id])
            .args(words)
            .env("USER", &owner)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(failed)?;
        Ok(Self { owner, child, log })
    }

    /// Whether it has ended within this time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> Result<bool> {
        let until = Instant::now() + time;
        loop {
            let ended = self.child.try_wait().map_err(|why| {
                Error::new(ErrorKind::Other, "a deployer cannot be waited for").with_source(why)
            })?;
            if ended.is_some() {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL. False when it had ended before.
    pub(crate) fn kill(&mut self) -> bool {
        let was_alive = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let _ = self.child.wait();
        was_alive
    }

    /// What it said, and its last word: an object where it came to its end.
    pub(crate) fn said(&self) -> (String, Value) {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().next_back().and_then(|line| serde_json::from_str(line).ok());
        (text, last.unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The other side: what the process does. Returns its last word.
pub(crate) async fn run(words: &[String]) -> Value {
    match work(words).await {
        Ok(word) => word,
        Err(error) => {
            json!({ "error": error.report(), "busy": error.kind() == ErrorKind::Conflict })
        }
    }
}

async fn work(words: &[String]) -> Result<Value> {
    let wrong = || Error::invalid("a deployer is started by this program alone");
    let (id, words) = words.split_first().ok_or_else(wrong)?;
    let site = Site::of(id.clone()).await?;
    let haproxy = site.start_haproxy().await?;
    let deployer = deployment::deployer(&site, &haproxy)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        [RECOVER] => {
            let recovered = match deployer.recover(&site.service).await? {
                Some(rollout) => show(rollout).await?,
                None => Value::Null,
            };
            let settled = deployer.settle(&site.service).await?.map(|place| place.to_string());
            Ok(json!({ "recovered": recovered, "settled": settled }))
        }
        [strategy, image, version, holds, has_job, goes_on] => {
            let is = |flag| flag == "true";
            let known = How::ALL.into_iter().find(|how| how.to_string() == strategy);
            let strategy = deployment::strategy(known.ok_or_else(wrong)?)?;
            let mut change = Change::to(image).with_spec(deployment::service(version));
            if deployer.history(&site.service).await?.is_empty() {
                // From then on the service has its own count.
                change = change.with_replicas(crate::REPLICAS);
            }
            let mut plan = deployer.plan(&site.service, &*strategy, change).await?;
            if is(holds)
                && let Some(last @ Step::Retire { .. }) = plan.steps.last_mut()
            {
                *last = Step::Hold { time: HOLD };
            }
            if is(has_job) {
                let job = Job::new("check").with_command(["job", "400", "0", "done"]);
                plan = plan.with_job(Point::PreScaleUp, job);
            }
            if is(goes_on) {
                plan = plan.with_on_orphan(OnOrphan::Continue);
            }
            show(deployer.deploy(plan).await?).await
        }
        _ => Err(wrong()),
    }
}

/// Tells all that happens, for whoever looks at the log of a round.
async fn show(mut rollout: Rollout) -> Result<Value> {
    let mut updates = rollout.updates();
    while let Some(update) = updates.next().await {
        println!("{} {} {}", update.at, update.rollout, update.kind);
    }
    let report = rollout.await?;
    println!("{report}");
    Ok(json!({ "outcome": report.outcome.name(), "why": report.why }))
}
