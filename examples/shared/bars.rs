//! The bars: where the rollout is, where the requests go, how the tasks are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use deploykit::{BalancerState, Place, Routing, TargetHealth, Weight};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The width of the bars, in characters.
const WIDTH: usize = 40;

/// Bars at the lower end of a terminal. They stay there while lines are printed above.
pub(crate) struct Bars {
    screen: MultiProgress,
    step: ProgressBar,
    routing: ProgressBar,
    requests: ProgressBar,
    places: Mutex<BTreeMap<Place, ProgressBar>>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        // What is too wide is cut: a line that wraps would move all of them.
        let step = format!("{{prefix:9}}{{bar:{WIDTH}.cyan/dim}} {{wide_msg}}");
        let step = screen.add(bar(0, &step));
        let routing = screen.add(bar(0, "{prefix:9}{wide_msg}"));
        let requests = screen.add(bar(0, "{prefix:9}{wide_msg}"));
        routing.set_prefix("routing");
        requests.set_prefix("requests");
        Self { screen, step, routing, requests, places: Mutex::default() }
    }

    pub(crate) fn print(&self, line: &str) {
        // A terminal that has gone away is no reason to end a rollout.
        let _ = self.screen.println(line);
    }

    pub(crate) fn step(&self, number: usize, of: usize, text: &str) {
        self.step.set_length(of as u64);
        self.step.set_position(number as u64);
        self.step.set_prefix(format!("{number} of {of}"));
        self.step.set_message(text.to_owned());
    }

    pub(crate) fn draw(&self, state: &BalancerState, requests: u64, failed: u64) {
        self.routing.set_message(shares(&state.routing));
        self.requests.set_message(format!("{requests} answered, {failed} of them failed"));
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        for target in &state.targets {
            places.entry(target.place).or_insert_with(|| {
                let style = format!("{{prefix:9}}{{bar:{WIDTH}.green/yellow}} {{wide_msg}}");
                let added = self.screen.insert_before(&self.requests, bar(0, &style));
                added.set_prefix(format!("place {}", target.place));
                added
            });
        }
        places.retain(|place, bar| {
            let (all, healthy) = (state.targets_of(*place).count(), state.healthy(*place));
            let draining = state.targets_of(*place).filter(|t| t.health == TargetHealth::Draining);
            let draining = match draining.count() {
                0 => String::new(),
                count => format!(", {count} draining"),
            };
            let busy = state.in_flight(*place);
            bar.set_length(all as u64);
            bar.set_position(u64::from(healthy));
            bar.set_message(format!("{healthy} of {all} serve{draining}, {busy} in flight"));
            if all == 0 {
                self.screen.remove(bar);
            }
            all > 0
        });
    }

    pub(crate) fn clear(&self) {
        // As in `print`.
        let _ = self.screen.clear();
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style.progress_chars("━━─"))
}

/// The shares of the places as a bar: `AAAAAAAAAABBB A 75 %, B 25 %`.
fn shares(routing: &Routing) -> String {
    let letters = routing.places().flat_map(|place| {
        let share = usize::from(routing.weight(place).get()) * WIDTH;
        let count = share.div_ceil(usize::from(Weight::ALL.get()));
        std::iter::repeat_n(place.to_string(), count)
    });
    let letters: String = letters.take(WIDTH).collect();
    format!("{letters:WIDTH$} {routing}")
}
