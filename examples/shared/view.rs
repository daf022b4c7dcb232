//! Shows a rollout while it runs: a line for whatever happens, and on a terminal bars below the lines.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use deploykit::{
    LoadBalancer, Place, ServiceName, Timestamp, Update, UpdateKind, Updates, Verdict,
};
use tokio::time::{MissedTickBehavior, interval};

use crate::bars::Bars;

/// How often the bars are drawn anew.
const REDRAW: Duration = Duration::from_millis(100);

/// How often it is told how many requests a draining place still has.
const TELL: Duration = Duration::from_secs(1);

/// Where a rollout is shown.
pub(crate) struct View<'a> {
    service: &'a ServiceName,
    balancer: &'a dyn LoadBalancer,
    /// None where the output is not a terminal.
    bars: Option<Bars>,
    pause: Duration,
}

impl<'a> View<'a> {
    /// On a terminal the bars show what the balancer sees. `pause` is for virtual time, which takes none: a person at a
    /// terminal gets so much real time for each 100 ms of it.
    pub(crate) fn new(
        service: &'a ServiceName,
        balancer: &'a dyn LoadBalancer,
        pause: Duration,
    ) -> Self {
        let bars = std::io::stdout().is_terminal().then(Bars::new);
        Self { service, balancer, bars, pause }
    }

    /// Shows what happens until the rollout is over. `counts` tells how many requests have ended, and how many of them
    /// have failed.
    pub(crate) async fn follow(&self, mut updates: Updates, counts: impl Fn() -> (u64, u64)) {
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lines = Lines::default();
        loop {
            tokio::select! {
                biased;
                update = updates.next() => {
                    let Some(update) = update else { break };
                    self.show(&update, &mut lines);
                }
                _ = redraw.tick() => self.redraw(counts()).await,
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
            None => say(line),
        }
    }

    fn show(&self, update: &Update, lines: &mut Lines) {
        let Some(line) = lines.line(update) else { return };
        match (&self.bars, &update.kind) {
            // The bars show these.
            (
                Some(_),
                UpdateKind::Tasks { .. } | UpdateKind::Routing { .. } | UpdateKind::InFlight { .. },
            ) => {}
            (Some(bars), UpdateKind::Step { number, of, text, .. }) => {
                bars.step(*number, *of, text);
                self.say(&line);
            }
            _ => self.say(&line),
        }
    }

    async fn redraw(&self, (ended, failed): (u64, u64)) {
        let Some(bars) = &self.bars else { return };
        // A balancer that cannot be asked at the moment leaves the picture as it was.
        if let Ok(state) = self.balancer.observe(self.service).await {
            bars.draw(&state, ended, failed);
        }
        std::thread::sleep(self.pause);
    }
}

/// Prints a line. A reader who has gone away must not keep a rollout from being brought to its end.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What is worth a line, with the time since the rollout began.
#[derive(Default)]
struct Lines {
    began: Option<Timestamp>,
    /// What was told last of a place, the routing, a gate: once is enough.
    told: BTreeMap<String, String>,
    /// When it was told last how many requests a place still has.
    draining: BTreeMap<Place, Timestamp>,
    is_undoing: bool,
}

impl Lines {
    fn line(&mut self, update: &Update) -> Option<String> {
        let began = *self.began.get_or_insert(update.at);
        let what = match &update.kind {
            kind if self.repeats(kind, update.at) => return None,
            // Why was told when the undoing began.
            UpdateKind::Ended { outcome, .. } if self.is_undoing => outcome.to_string(),
            kind => kind.to_string(),
        };
        self.is_undoing |= matches!(update.kind, UpdateKind::Undoing { .. });
        Some(format!("[{:7.3}s] {what}", update.at.since(began).as_secs_f64()))
    }

    fn repeats(&mut self, kind: &UpdateKind, at: Timestamp) -> bool {
        let (subject, state) = match kind {
            UpdateKind::InFlight { place, requests: 0 } => {
                self.draining.remove(place);
                return false;
            }
            UpdateKind::InFlight { place, .. } => {
                let is_new = self.draining.get(place).is_none_or(|told| at.since(*told) >= TELL);
                if is_new {
                    self.draining.insert(*place, at);
                }
                return !is_new;
            }
            UpdateKind::Tasks { place, healthy, wanted } => {
                (format!("place {place}"), format!("{healthy} of {wanted}"))
            }
            UpdateKind::Routing { routing } => ("routing".to_owned(), routing.to_string()),
            UpdateKind::Measured { gate, measurement } if measurement.verdict == Verdict::Pass => {
                (format!("gate {gate}"), measurement.verdict.to_string())
            }
            UpdateKind::Step { .. } => {
                // That the gates pass is told in each step anew.
                self.told.retain(|subject, _| !subject.starts_with("gate "));
                return false;
            }
            _ => return false,
        };
        self.told.insert(subject, state.clone()) == Some(state)
    }
}
