//! Rounds in which a part is out for a while. Requests may fail meanwhile, and only then.

use std::time::Duration;

use deploykit::{LoadBalancer, Result, Target, TargetHealth};
use tokio::time::{sleep, timeout};

use crate::draw::{Draw, Kind};
use crate::round::{Stage, Told, count};

/// How long a dead task stays dead, and everything may take to come back.
const DEAD: Duration = Duration::from_secs(1);
const COMES_BACK: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An outage is over when HAProxy has found nothing wrong with any task so many times in a row.
const STEADY: u32 = 10;

impl Stage<'_> {
    pub(crate) async fn outage(&mut self, draw: &Draw, told: &mut Told) -> Result<()> {
        let mut process = self.start(draw, "", None)?;
        process.ends_within(draw.at).await?;
        let tally = self.next_load(told).await?;
        count(&tally, draw, told);
        self.strike(draw, told).await?;
        if timeout(COMES_BACK, self.until_all_is_back()).await.is_err() {
            told.wrong.texts.push(format!("not everything is back after {COMES_BACK:?}"));
        }
        let tally = self.next_load(told).await?;
        (told.requests, told.failed_in_outage) = (told.requests + tally.requests, tally.failed);
        self.end(&mut process, told).await
    }

    async fn strike(&mut self, draw: &Draw, told: &mut Told) -> Result<()> {
        let bare = &self.site.bare;
        match (draw.kind, &mut self.daemon) {
            (Kind::Daemon, Some(daemon)) => daemon.restart(draw.left.is_multiple_of(2)).await,
            (Kind::Task, _) => {
                let list = bare.get(&crate::watch::list_of(&self.site.service)).await?;
                let tasks: Vec<_> = list.as_array().into_iter().flatten().collect();
                let drawn = tasks.get(draw.left as usize % tasks.len().max(1));
                let name = drawn.and_then(|task| task.pointer("/Id")?.as_str()).unwrap_or_default();
                // It may be on its way out, or replaced before it is back.
                let killed = bare.post(&format!("/containers/{name}/kill"), None).await;
                sleep(DEAD).await;
                let back = bare.post(&format!("/containers/{name}/start"), None).await;
                told.story.push_str(&format!("task {name}: killed {killed:?}, back {back:?}\n"));
                Ok(())
            }
            _ => {
                let name = format!("deploykit-haproxy-{}", self.site.id);
                bare.post(&format!("/containers/{name}/restart?t=1"), None).await.map(drop)
            }
        }
    }

    async fn until_all_is_back(&self) {
        let mut good = 0;
        while good < STEADY {
            sleep(LOOK_EVERY).await;
            let seen = self.haproxy.observe(&self.site.service).await;
            let is_good = seen.is_ok_and(|state| {
                let is_bad = |target: &Target| {
                    matches!(target.health, TargetHealth::Starting | TargetHealth::Unhealthy)
                };
                !state.targets.iter().any(is_bad)
            });
            good = if is_good { good + 1 } else { 0 };
        }
    }
}
