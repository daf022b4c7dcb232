//! The lives of tasks: start, readiness, death, restart, end.

use std::time::Duration;

use deploykit_core::{Place, TaskId, TaskState};

use crate::behaviour::Behaviour;
use crate::rng::Rng;
use crate::state::{At, Event, State};

/// Docker's restart policy: it waits 100 ms before the first restart and twice as long before each further one, up to a
/// minute; after ten seconds of running it begins again.
const FIRST_RESTART: Duration = Duration::from_millis(100);
const LONGEST_RESTART: Duration = Duration::from_secs(60);
const GOOD_RUN: Duration = Duration::from_secs(10);

/// What exit codes 128 + n say by convention: ended by signal n, here SIGKILL.
const KILLED: u32 = 137;

pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) place: Place,
    pub(crate) address: Option<String>,
    pub(crate) state: TaskState,
    /// Counts its starts and its ends: what was foreseen for an earlier life does not happen any more. Zero while it waits
    /// for room.
    life: u32,
    began: At,
    /// From when on it has passed enough checks in this life to get requests, as long as it goes on passing them.
    pub(crate) trusted_from: Option<At>,
    /// The first such time of all its lives.
    pub(crate) first_trusted: Option<At>,
    /// Has had its first live request, and answers badly since; only with a behaviour of that kind.
    pub(crate) broken: bool,
    restarts: u32,
    backoff: Duration,
    /// Was one too many when its place was scaled down, and goes as soon as it has drained.
    pub(crate) leaving: bool,
    /// When it is going to be gone; only while it stops.
    pub(crate) gone_at: Option<At>,
}

/// One of 10.0.0.0/8 for each task of a service: after 15 million the first ones come again.
fn address(task: u64) -> String {
    format!("10.{}.{}.{}", task / (250 * 250) % 250, task / 250 % 250, task % 250 + 1)
}

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    Ready,
    Sick,
    Well,
    Die {
        code: u32,
    },
    Restart,
    /// It has drained, and is stopped by whoever scaled its place down.
    Leave,
    Gone,
}

impl State {
    /// Starts tasks in a place that is running something.
    pub(crate) fn start_tasks(&mut self, number: usize, place: Place, count: u32) {
        for _ in 0..count {
            let Some(service) = self.services.get_mut(number) else {
                return;
            };
            service.last_task += 1;
            let task = service.last_task;
            let address = service
                .runs
                .get(&place)
                .and_then(|run| run.port)
                .map(|port| format!("{}:{port}", address(task)));
            service.tasks.insert(
                task,
                Task {
                    id: TaskId::new(format!("{}-{place}-{task}", service.name)),
                    place,
                    address,
                    state: TaskState::Waiting { why: String::new() },
                    life: 0,
                    began: self.now,
                    trusted_from: None,
                    first_trusted: None,
                    broken: false,
                    restarts: 0,
                    backoff: FIRST_RESTART,
                    leaving: false,
                    gone_at: None,
                },
            );
            self.version += 1;
        }
        self.find_room();
    }

    /// Starts the tasks that wait for room as far as there is any, the oldest of each service first.
    pub(crate) fn find_room(&mut self) {
        let mut waiting = Vec::new();
        let mut placed = 0;
        for (number, service) in self.services.iter().enumerate() {
            for (task, entry) in &service.tasks {
                match entry.life {
                    0 => waiting.push((number, *task)),
                    _ => placed += 1,
                }
            }
        }
        let room = self.settings.room.unwrap_or(usize::MAX);
        for (number, task) in waiting {
            if placed < room {
                placed += 1;
                self.with_task(number, task, |task| task.state = TaskState::Starting);
                self.begin_life(number, task);
            } else {
                let why = format!("unable to place it: {placed} tasks take up the room of {room}");
                self.with_task(number, task, |task| task.state = TaskState::Waiting { why });
            }
        }
    }

    fn begin_life(&mut self, number: usize, task: u64) {
        let (seed, now) = (self.seed, self.now);
        let Some((behaviour, life)) = self.with_task(number, task, |task| {
            task.life += 1;
            task.began = now;
            task.broken = false;
            task.life
        }) else {
            return;
        };
        let stream = (number as u64) << 48 | task << 16 | u64::from(life);
        let ready = now.saturating_add(behaviour.start_time(&mut Rng::new(seed, stream)));
        if behaviour.crashes {
            self.foresee(number, task, ready, Moment::Die { code: 3 });
        } else {
            let moment = if behaviour.never_ready { Moment::Sick } else { Moment::Ready };
            self.foresee(number, task, ready, moment);
        }
    }

    /// A change to a task that lives, with the behaviour of what it runs.
    pub(crate) fn with_task<T>(
        &mut self,
        number: usize,
        task: u64,
        change: impl FnOnce(&mut Task) -> T,
    ) -> Option<(Behaviour, T)> {
        let service = self.services.get_mut(number)?;
        let task = service.tasks.get_mut(&task)?;
        let behaviour = service.runs.get(&task.place)?.behaviour;
        Some((behaviour, change(task)))
    }

    pub(crate) fn foresee(&mut self, service: usize, task: u64, at: At, moment: Moment) {
        let life = self.task(service, task).map(|task| task.life);
        if let Some(life) = life {
            self.schedule(at, Event::Task { service, task, life, moment });
        }
    }

    pub(crate) fn task(&self, number: usize, task: u64) -> Option<&Task> {
        self.services.get(number)?.tasks.get(&task)
    }

    /// Whether a task still lives the life in which something was foreseen for it.
    pub(crate) fn lives(&self, number: usize, task: u64, life: u32) -> bool {
        self.task(number, task).is_some_and(|task| task.life == life)
    }

    /// Something that was foreseen for a task happens to it.
    pub(crate) fn live(&mut self, number: usize, task: u64, life: u32, moment: Moment) {
        if !self.lives(number, task, life) {
            return;
        }
        match moment {
            Moment::Ready => self.get_ready(number, task, true),
            Moment::Well => self.get_ready(number, task, false),
            Moment::Sick => self.get_sick(number, task),
            Moment::Die { code } => self.die(number, task, code),
            Moment::Restart => {
                self.with_task(number, task, |task| {
                    // One that never came up stays shown as failed: a crash loop is no fresh start.
                    if task.trusted_from.take().is_some() {
                        task.state = TaskState::Starting;
                    }
                    task.restarts += 1;
                });
                self.begin_life(number, task);
            }
            Moment::Leave => self.leave(number, task),
            Moment::Gone => {
                if let Some(service) = self.services.get_mut(number)
                    && let Some(gone) = service.tasks.remove(&task)
                    && service.tasks_of(gone.place).next().is_none()
                {
                    service.runs.remove(&gone.place);
                }
                self.find_room();
            }
        }
    }

    /// Makes a task that was just started one that has been running for a while.
    pub(crate) fn grow_up(&mut self, number: usize, task: u64) {
        self.with_task(number, task, |task| task.life += 1);
        self.get_ready(number, task, true);
        let now = self.now;
        self.with_task(number, task, |task| {
            task.trusted_from = Some(now);
            task.first_trusted = Some(now);
        });
    }

    fn get_ready(&mut self, number: usize, task: u64, first: bool) {
        let now = self.now;
        let trusted_from = now.saturating_add(self.settings.registration_lag);
        let Some((behaviour, ())) = self.with_task(number, task, |task| {
            task.state = TaskState::Ready;
            task.trusted_from = Some(trusted_from);
            task.first_trusted = task.first_trusted.or(Some(trusted_from));
        }) else {
            return;
        };
        if let Some(time) = behaviour.dies_after.filter(|_| first) {
            self.foresee(number, task, now.saturating_add(time), Moment::Die { code: 1 });
        }
        if let Some((up, _)) = behaviour.flaps {
            self.foresee(number, task, now.saturating_add(up), Moment::Sick);
        }
    }

    fn get_sick(&mut self, number: usize, task: u64) {
        let now = self.now;
        let Some((behaviour, broken)) = self.with_task(number, task, |task| {
            let answer = if task.broken { 500 } else { 503 };
            task.state = TaskState::Unhealthy { why: format!("its health check answers {answer}") };
            task.broken
        }) else {
            return;
        };
        if let Some((_, down)) = behaviour.flaps.filter(|_| !broken && !behaviour.never_ready) {
            self.foresee(number, task, now.saturating_add(down), Moment::Well);
        }
    }

    /// A task has begun to answer badly; it is found out after a while.
    pub(crate) fn break_task(&mut self, number: usize, task: u64) {
        let found_out = self.now.saturating_add(self.settings.detection);
        self.with_task(number, task, |task| task.broken = true);
        self.foresee(number, task, found_out, Moment::Sick);
    }

    /// Kills a task, which the orchestrator restarts.
    pub(crate) fn kill(&mut self, number: usize, task: u64) {
        self.version += 1;
        self.die(number, task, KILLED);
    }

    fn die(&mut self, number: usize, task: u64, code: u32) {
        if self.task(number, task).is_some_and(|task| task.leaving) {
            // Nobody restarts what is one too many.
            return self.leave(number, task);
        }
        let now = self.now;
        let Some((_, wait)) = self.with_task(number, task, |task| {
            let ran = now.saturating_sub(task.began);
            if ran >= GOOD_RUN {
                task.backoff = FIRST_RESTART;
            }
            let line = match code {
                3 => "fatal: this version cannot start",
                KILLED => "ready",
                _ => "fatal: this version has run long enough",
            };
            let restarts = match task.restarts {
                0 => String::new(),
                n => format!(", restarted {n} times before"),
            };
            task.state = TaskState::Failed {
                why: format!(
                    "exited with code {code} after {:.1} s{restarts}; last log line: {line}",
                    ran.as_secs_f64()
                ),
            };
            task.life += 1;
            let wait = task.backoff;
            task.backoff = (wait * 2).min(LONGEST_RESTART);
            wait
        }) else {
            return;
        };
        self.cut(number, task, "the task died while it answered");
        self.foresee(number, task, now + wait, Moment::Restart);
    }

    /// Sends a task SIGTERM and returns when it is going to be gone; one that is stopping already goes on stopping.
    pub(crate) fn end(&mut self, number: usize, task: u64) -> Option<At> {
        let now = self.now;
        let service = self.services.get_mut(number)?;
        let entry = service.tasks.get_mut(&task)?;
        if let Some(gone_at) = entry.gone_at {
            return Some(gone_at);
        }
        let run = service.runs.get(&entry.place)?;
        let alive = !matches!(entry.state, TaskState::Failed { .. } | TaskState::Waiting { .. });
        let gone_at = match alive {
            true => now.saturating_add(run.behaviour.stop.min(run.stop_grace)),
            false => now,
        };
        entry.life += 1;
        entry.state = TaskState::Stopping;
        entry.gone_at = Some(gone_at);
        self.version += 1;
        self.cut(number, task, "the task was stopped while it answered");
        self.foresee(number, task, gone_at, Moment::Gone);
        Some(gone_at)
    }
}
