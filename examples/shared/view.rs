//! Shows a rollout while it runs: a line for whatever happens, and on a terminal bars below the lines.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use deploykit::{LoadBalancer, ServiceName, Timestamp, Update, UpdateKind, Updates, Verdict};
use tokio::time::{MissedTickBehavior, interval};

use super::bars::Bars;

/// How often the bars are drawn anew.
const REDRAW: Duration = Duration::from_millis(100);

/// Where a rollout is shown.
pub(crate) struct View<'a> {
    service: &'a ServiceName,
    balancer: &'a dyn LoadBalancer,
    /// None where the output is not a terminal.
    bars: Option<Bars>,
    pause: Duration,
}

impl<'a> View<'a> {
    /// Bars read from `balancer` on a terminal, lines alone otherwise.
    pub(crate) fn new(service: &'a ServiceName, balancer: &'a dyn LoadBalancer) -> Self {
        let bars = std::io::stdout().is_terminal().then(Bars::new);
        Self { service, balancer, bars, pause: Duration::ZERO }
    }

    /// Virtual time passes in no time at all. A person at a terminal gets this much real time for each 100 ms of it.
    pub(crate) fn slowed_for_people(mut self, pause: Duration) -> Self {
        if self.bars.is_some() {
            self.pause = pause;
        }
        self
    }

    /// Shows what happens until the rollout is over. `counts` tells how many requests have ended, and how many failed.
    pub(crate) async fn follow(&self, mut updates: Updates, counts: impl Fn() -> (u64, u64)) {
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lines = Lines::default();
        loop {
            tokio::select! {
                biased;
                update = updates.next() => {
                    let Some(update) = update else { break };
                    let shown_by_bars = self.bars.as_ref().is_some_and(|bars| bars.take(&update.kind));
                    if let Some(line) = lines.line(&update).filter(|_| !shown_by_bars) {
                        self.say(&line);
                    }
                }
                _ = redraw.tick(), if self.bars.is_some() => self.redraw(counts()).await,
            }
        }
        if let Some(bars) = &self.bars {
            bars.clear();
        }
    }

    /// Prints a line, above the bars where there are any.
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.print(line),
            None => println!("{line}"),
        }
    }

    async fn redraw(&self, counts: (u64, u64)) {
        if let (Some(bars), Ok(state)) = (&self.bars, self.balancer.observe(self.service).await) {
            bars.draw(&state, counts);
        }
        std::thread::sleep(self.pause);
    }
}
