//! The state of the world, and how it moves on.
//!
//! Nothing runs in the background. What is going to happen stands in a queue with its time, and whoever looks at the state
//! first lets everything happen that is due: tasks become ready, requests arrive and are answered. So the state is a
//! function of the virtual time and of the calls that were made, in whatever order the runtime polls.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use deploykit_core::{
    Digest, Error, ErrorKind, ImageSource, Place, Readiness, Release, Result, RevisionId, Routing,
    ServiceName, TaskId,
};

use crate::behaviour::Behaviour;
use crate::calls::Calls;
use crate::jobs::Jobs;
use crate::past::Past;
use crate::requests::Request;
use crate::rng::Rng;
use crate::safety::Violation;
use crate::settings::Settings;
use crate::tasks::{Moment, Task};
use crate::traffic::Source;

/// How often is to be looked at what nobody reports.
const LOOK: Duration = Duration::from_millis(500);

/// A point in time: so long after the world began.
pub(crate) type At = Duration;

pub(crate) struct State {
    pub(crate) now: At,
    pub(crate) seed: u64,
    /// For whatever is asked one by one, such as gates; loads and tasks have streams of their own.
    pub(crate) rng: Rng,
    pub(crate) settings: Settings,
    /// What each tag means.
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Which repository has which digests.
    pub(crate) repositories: BTreeSet<(String, Digest)>,
    /// What is there to be published; the last of a source counts.
    pub(crate) built: Vec<(ImageSource, Digest)>,
    pub(crate) behaviours: BTreeMap<Digest, Behaviour>,
    pub(crate) services: Vec<Service>,
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) sources: Vec<Source>,
    pub(crate) calls: Calls,
    pub(crate) violations: Vec<Violation>,
    /// Counts what calls changed, to tell those that changed nothing.
    pub(crate) version: u64,
    /// How far the clock that is shown has been set off from the virtual time, in milliseconds.
    pub(crate) clock_offset: i64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    next: u64,
}

/// All there is of one service, with its orchestrator and its balancer.
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) revisions: BTreeMap<RevisionId, Release>,
    pub(crate) runs: BTreeMap<Place, Run>,
    /// By number, which is the order of their start.
    pub(crate) tasks: BTreeMap<u64, Task>,
    pub(crate) last_task: u64,
    /// What requests follow and reads show.
    pub(crate) routing: Routing,
    /// Accepted, not yet effective.
    pub(crate) accepted: VecDeque<Routing>,
    pub(crate) test_route: Option<Place>,
    pub(crate) targets: Vec<TargetEntry>,
    pub(crate) jobs: Jobs,
    /// What reads may show still, the oldest first.
    pub(crate) past: VecDeque<Past>,
}

/// What a place is to run.
pub(crate) struct Run {
    pub(crate) revision: RevisionId,
    pub(crate) behaviour: Behaviour,
    pub(crate) stop_grace: Duration,
    pub(crate) port: Option<u16>,
    pub(crate) desired: u32,
}

/// What the balancer keeps of a target.
pub(crate) struct TargetEntry {
    pub(crate) place: Place,
    pub(crate) id: TaskId,
    /// The task's number; none for a task that does not exist.
    pub(crate) task: Option<u64>,
    pub(crate) address: String,
    /// When it will have been checked often enough to get requests, as far as its registration goes.
    pub(crate) checked_from: At,
    pub(crate) draining: bool,
}

/// What is going to happen. Services, loads and requests are named by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// To a task, if it still lives the life in which this was foreseen.
    Task { service: usize, task: u64, life: u32, moment: Moment },
    /// The oldest accepted routing becomes effective.
    Route { service: usize },
    /// The next request of a load arrives.
    Arrive { source: usize },
    /// A request is answered.
    Answer { request: u64 },
}

/// Ordered by time; what falls together happens in the order in which it was foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at: At,
    order: u64,
    event: Event,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: At::ZERO,
            seed,
            rng: Rng::new(seed, 0),
            settings: Settings::default(),
            tags: BTreeMap::new(),
            repositories: BTreeSet::new(),
            built: Vec::new(),
            behaviours: BTreeMap::new(),
            services: Vec::new(),
            requests: BTreeMap::new(),
            sources: Vec::new(),
            calls: Calls::default(),
            violations: Vec::new(),
            version: 0,
            clock_offset: 0,
            queue: BinaryHeap::new(),
            next: 0,
        }
    }

    /// A number that was not used before.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn schedule(&mut self, at: At, event: Event) {
        let order = self.number();
        self.queue.push(Reverse(Scheduled { at, order, event }));
    }

    /// Lets happen whatever is due until `to`.
    pub(crate) fn advance(&mut self, to: At) {
        while let Some(Reverse(next)) = self.queue.peek().copied()
            && next.at <= to
        {
            self.queue.pop();
            self.now = self.now.max(next.at);
            self.remember();
            match next.event {
                Event::Task { service, task, life, moment } => {
                    self.live(service, task, life, moment)
                }
                Event::Route { service } => self.route_accepted(service),
                Event::Arrive { source } => self.arrive(source),
                Event::Answer { request } => self.answer(request),
            }
        }
        self.now = self.now.max(to);
    }

    /// When whoever waits for a change of a service has to look again, unless somebody changes something before.
    pub(crate) fn next_look(&self, service: &ServiceName, at_most: Duration) -> At {
        // Reads that are old show later what happens now, and nobody reports that.
        let at_most = if self.settings.stale_reads.is_zero() { at_most } else { at_most.min(LOOK) };
        let latest = self.now.saturating_add(at_most);
        let next = self.find(service.as_str()).and_then(|number| self.next_change(number));
        next.map_or(latest, |next| next.min(latest))
    }

    /// When something about a service is going to change that its orchestrator or balancer shows, as far as is known.
    fn next_change(&self, number: usize) -> Option<At> {
        let queued = self.queue.iter().filter_map(|Reverse(next)| {
            let concerns = match next.event {
                // Whoever goes makes room for others.
                Event::Task { service, task, life, moment } => {
                    (service == number || moment == Moment::Gone) && self.lives(service, task, life)
                }
                Event::Route { service } => service == number,
                Event::Answer { request } => self.is_draining(number, request),
                Event::Arrive { .. } => false,
            };
            concerns.then_some(next.at)
        });
        let checked = self.services.get(number).into_iter().flat_map(|service| {
            service.targets.iter().filter_map(|target| service.healthy_from(target))
        });
        queued.chain(checked).filter(|at| *at > self.now).min()
    }

    /// The number of a service that is known.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.services.iter().position(|service| service.name.as_str() == name)
    }

    /// The number of a service, which is made known.
    pub(crate) fn find_or_add(&mut self, name: &ServiceName) -> usize {
        self.find(name.as_str()).unwrap_or_else(|| {
            self.services.push(Service::new(name.clone()));
            self.services.len() - 1
        })
    }

    pub(crate) fn service(&self, name: &str) -> Result<(usize, &Service)> {
        let found = self.find(name).and_then(|number| Some((number, self.services.get(number)?)));
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("service {name} is not known in this world"))
                .with_hint("launch something, or begin with World::already_runs")
        })
    }
}

impl Service {
    fn new(name: ServiceName) -> Self {
        Self {
            name,
            revisions: BTreeMap::new(),
            runs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            last_task: 0,
            routing: Routing::Closed,
            accepted: VecDeque::new(),
            test_route: None,
            targets: Vec::new(),
            jobs: Jobs::default(),
            past: VecDeque::new(),
        }
    }

    pub(crate) fn tasks_of(&self, place: Place) -> impl Iterator<Item = (u64, &Task)> {
        self.tasks
            .iter()
            .filter(move |(_, task)| task.place == place)
            .map(|(number, task)| (*number, task))
    }

    /// The number of the task that has this address.
    pub(crate) fn task_at(&self, address: &str) -> Option<u64> {
        let mut tasks = self.tasks.iter();
        tasks.find(|(_, task)| task.address.as_deref() == Some(address)).map(|(number, _)| *number)
    }

    /// Whether it is a service of whole connections, as its releases say.
    pub(crate) fn is_tcp(&self) -> bool {
        let release = |run: &Run| self.revisions.get(&run.revision);
        let mut releases = self.runs.values().filter_map(release);
        releases.any(|release| release.spec.readiness == Readiness::Tcp)
    }
}
