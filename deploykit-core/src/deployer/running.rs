//! Running plans under the service's lease, and picking up what others left.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::handle::{Control, Rollout, Updates};
use super::ledger::{Entry, Ledger};
use super::{Deployer, named, release_blob};
use crate::driver::{Ask, Driver, Performer, Request, Writer, patiently};
use crate::error::{Error, ErrorKind, Result};
use crate::machine::{Event, Machine, Record};
use crate::name::{Place, RolloutId, ServiceName};
use crate::outcome::{Outcome, Report};
use crate::plan::{FORMAT, Plan, newer};
use crate::store::{Journal, Lease, Owner};
use crate::time::Timestamp;

/// How many updates a slow reader may be behind.
const BEHIND: usize = 4_096;

/// A lease is renewed so often within its time, and after such a part of it without a renewal the work rests.
const RENEWED: u32 = 6;
pub(super) const RESTS: u32 = 4;

/// What to do about a rollout of which the store does not know enough.
const BY_HAND: &str = "restore the store from a backup; or end the rollout by hand, so that one place has all requests and the \
                       others are gone, and move what the store has of the service away: the next plan takes that place for \
                       stable";

/// How long a request that is there may take to be read.
const POSTED: Duration = Duration::from_secs(2);

impl Deployer {
    /// Runs exactly this plan. Returns when the rollout has begun; await the handle for its outcome.
    ///
    /// # Errors
    /// `StalePlan` when the world has changed since the plan was made; `Conflict`, saying by whom, while somebody else
    /// deploys the service or an earlier rollout has not ended; `NotFound` for a gate, hook or approver that the plan names
    /// and this deployer was not given; `Invalid` or `Unsupported` for a plan that was edited into one that cannot be.
    /// Nothing has been changed then.
    ///
    /// **Cancellation.** A dropped call may have begun the rollout, which then runs without a handle.
    pub async fn deploy(&self, plan: Plan) -> Result<Rollout> {
        self.check(&plan).await?;
        if plan.is_noop() {
            return Ok(self.nothing_to_do(plan));
        }
        let service = plan.service.clone();
        self.leased(
            service,
            true,
            |this, lease| async move { this.begin(plan, lease).await.map(Some) },
        )
        .await?
        .ok_or_else(|| Error::new(ErrorKind::Other, "the rollout did not begin"))
    }

    /// Works under the lease of a service, which is given back unless the work `keeps` it and came to something. In a
    /// task of its own, so that a caller who drops the call, or a provider that panics, does not leave the lease behind.
    pub(super) async fn leased<T, F>(
        &self,
        service: ServiceName,
        keeps: bool,
        work: impl FnOnce(Self, Lease) -> F + Send + 'static,
    ) -> Result<Option<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<Option<T>>> + Send + 'static,
    {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let lease = this.store.acquire(&service, &this.owner(), this.lease).await?;
            let worked = this.under(&lease, work(this.clone(), lease.clone())).await;
            if !(keeps && matches!(worked, Ok(Some(_)))) {
                this.give_back(&lease).await;
            }
            worked
        });
        task.await.unwrap_or_else(|e| Err(panicked().with_source(e)))
    }

    async fn begin(&self, plan: Plan, lease: Lease) -> Result<Rollout> {
        let service = plan.service.clone();
        let ledger = self.settled_ledger(&service).await?;
        let now = self.find(&service, &ledger).await?.world;
        if let Some(difference) = plan.world.difference(&now) {
            return Err(Error::new(ErrorKind::StalePlan, format!("{service}: {difference}"))
                .with_hint("plan again"));
        }
        if let (Some(stable), Some(before)) = (&plan.world.stable, &plan.before) {
            // For the way back, also where somebody else deployed what serves now.
            self.store.put(&lease, &release_blob(&stable.revision), &json(before)?).await?;
        }
        let rollout = self.free_name(&service, &ledger).await?;
        self.store.put(&lease, rollout.as_str(), &json(&plan)?).await?;
        let mut history = self.history_writer(&lease, ledger.length);
        let entry = Entry::Begun {
            at: self.providers.clock.now(),
            rollout: rollout.clone(),
            strategy: plan.strategy.clone(),
            image: plan.release.image.clone(),
            before: plan.world.stable.as_ref().map(|stable| stable.revision.clone()),
            back: plan.back,
            by: self.owner(),
        };
        history.append(line(&entry)?).await?;
        let machine = Machine::new(plan, rollout);
        Ok(self.start(machine, lease, 0, Event::Begun { machine: FORMAT, by: self.owner() }))
    }

    /// A name that no rollout has had, also where the history was lost, or is an older one, and the journals are not.
    async fn free_name(&self, service: &ServiceName, ledger: &Ledger) -> Result<RolloutId> {
        let mut number = ledger.past.len();
        loop {
            number += 1;
            let rollout = RolloutId::new(format!("{service}-{number}"));
            let journal = Journal::Rollout(service.clone(), rollout.clone());
            if self.store.read(&journal, 0).await?.is_empty() {
                return Ok(rollout);
            }
        }
    }

    /// Takes up the rollout that a dead deployer left, or that needed an operator: replays its journal, observes, and
    /// goes on or undoes, as its plan says. `None` when nothing is open.
    ///
    /// # Errors
    /// `Conflict` while its deployer lives; `Corrupt` or `Newer` when its journal cannot be followed; `NotFound` for a gate, hook
    /// or approver that is needed to go on and that this deployer was not given.
    pub async fn recover<N>(&self, service: N) -> Result<Option<Rollout>>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.take_up(named(service)?).await
    }

    pub(super) async fn take_up(&self, service: ServiceName) -> Result<Option<Rollout>> {
        if Ledger::read(&self.store, &service).await?.unfinished().is_none() {
            return Ok(None);
        }
        self.leased(service, true, |this, lease| async move {
            let replayed = this.replay(&lease).await?;
            Ok(replayed.map(|(machine, length)| {
                let first = Event::Recovered { by: this.owner() };
                this.start(machine, lease, length, first)
            }))
        })
        .await
    }

    /// The machine of the unfinished rollout as its journal leaves it, with the journal's length.
    async fn replay(&self, lease: &Lease) -> Result<Option<(Machine, u64)>> {
        let service = &lease.service;
        // Read again under the lease: its deployer may just have ended it.
        let ledger = Ledger::read(&self.store, service).await?;
        let Some(past) = ledger.unfinished() else {
            return Ok(None);
        };
        let (machine, length) = self.replayed(service, &past.rollout).await?;
        self.check_undoable(machine.plan())?;
        let left = machine.steps_after_recovery();
        let hooks = if left.is_empty() { &[] } else { machine.plan().hooks.as_slice() };
        match self.check_names(left, hooks) {
            // Undoing needs none of them.
            Err(_) if self.is_to_be_undone(&machine).await? => {}
            checked => checked?,
        }
        Ok(Some((machine, length)))
    }

    /// Whether somebody has asked for an abort that nobody has taken up yet.
    async fn is_to_be_undone(&self, machine: &Machine) -> Result<bool> {
        let (service, rollout) = (&machine.plan().service, machine.rollout());
        let posted = self.store.posted(service, rollout, machine.requests());
        // Where there is none, it waits for one.
        let Ok(posted) = timeout(POSTED, posted).await else {
            return Ok(false);
        };
        Ok(posted?.iter().any(|line| {
            serde_json::from_str::<Request>(line).is_ok_and(|request| request.ask == Ask::Abort)
        }))
    }

    /// The machine of a rollout as its journal leaves it, with the journal's length.
    pub(super) async fn replayed(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
    ) -> Result<(Machine, u64)> {
        let plan = self.kept_plan(service, rollout).await?;
        let mut machine = Machine::new(plan, rollout.clone());
        let journal = Journal::Rollout(service.clone(), rollout.clone());
        let lines = self.store.read(&journal, 0).await?;
        for (number, text) in lines.iter().enumerate() {
            let record = read_record(text)
                .map_err(|e| e.within(format_args!("line {} of the {journal}", number + 1)))?;
            // Whoever began may have died before it wrote that down.
            let begins = matches!(record.event, Event::Begun { .. } | Event::Recovered { .. });
            if number == 0 && !begins || machine.lacks_what_led_to(&record.event) {
                let what = format!("a line is missing before line {} of the {journal}", number + 1);
                return Err(Error::new(ErrorKind::Corrupt, what).with_hint(BY_HAND));
            }
            machine.apply(&record);
        }
        Ok((machine, u64::try_from(lines.len()).unwrap_or(u64::MAX)))
    }

    /// The plan that a rollout was begun with.
    pub(super) async fn kept_plan(
        &self,
        service: &ServiceName,
        rollout: &RolloutId,
    ) -> Result<Plan> {
        let Some(json) = self.store.get(service, rollout.as_str()).await? else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("the plan of {rollout} is missing from the store"),
            )
            .with_hint("restore the store from a backup"));
        };
        Plan::from_json(&json).map_err(|e| e.within(format_args!("the plan of {rollout}")))
    }

    /// Undoing needs the providers, and no gate.
    fn check_undoable(&self, plan: &Plan) -> Result<()> {
        if plan.is_worker() == self.providers.balancer.is_some() {
            return Err(Error::invalid(format!(
                "the rollout of {} was begun {} balancer, and this deployer is built the other way",
                plan.service,
                if plan.is_worker() { "without" } else { "with" }
            )));
        }
        Ok(())
    }

    fn start(&self, machine: Machine, lease: Lease, length: u64, first: Event) -> Rollout {
        let (updates, receiver) = broadcast::channel(BEHIND);
        let (sender, commands) = mpsc::unbounded_channel();
        let rollout = machine.rollout().clone();
        let performer = Performer::new(
            Arc::clone(&self.providers),
            rollout.clone(),
            machine.plan(),
            machine.now(),
            updates.clone(),
        );
        let cleaner = performer.clone();
        let journal = Journal::Rollout(lease.service.clone(), rollout.clone());
        let writer =
            Writer { store: Arc::clone(&self.store), lease: lease.clone(), journal, length };
        let driver = Driver::new(machine, performer, writer, updates, (sender.clone(), commands));
        let deployer = self.clone();
        let task = tokio::spawn(async move {
            let work = async {
                let (machine, report) = driver.run(first).await?;
                // What needs an operator is left, to be looked at.
                if !machine.plan().jobs.is_empty() && report.outcome != Outcome::NeedsOperator {
                    cleaner.remove_jobs(&lease.service).await.map_err(|e| {
                        let (rollout, outcome) = (machine.rollout(), &report.outcome);
                        e.within(format_args!(
                            "{rollout} is {outcome}, and what its jobs left cannot be removed"
                        ))
                    })?;
                }
                Ok((machine, report))
            };
            let ended = match deployer.under(&lease, work).await {
                Ok((machine, report)) => deployer.conclude(&lease, &machine).await.map(|()| report),
                Err(error) => Err(error.with_hint(format!(
                    "the rollout is unfinished; call recover(\"{}\")",
                    lease.service
                ))),
            };
            deployer.give_back(&lease).await;
            ended
        });
        Rollout { id: Some(rollout), task, control: Control(sender), updates: Updates(receiver) }
    }

    /// Writes what came of a rollout into the history.
    async fn conclude(&self, lease: &Lease, machine: &Machine) -> Result<()> {
        let (report, mut roles) = (machine.report(), machine.roles());
        if let (Outcome::Promoted, Some(stable)) = (&report.outcome, &roles.stable) {
            let json = json(&machine.plan().release)?;
            let name = release_blob(&stable.revision);
            patiently(lease, || self.store.put(lease, &name, &json)).await?;
        }
        let ledger = Ledger::read(&self.store, &lease.service).await?;
        if ledger.unfinished().is_none_or(|past| past.rollout != *machine.rollout()) {
            let (service, rollout) = (&lease.service, machine.rollout());
            let what = format!(
                "{rollout} is {}, and the history of {service} does not know that it began",
                report.outcome
            );
            return Err(Error::new(ErrorKind::Corrupt, what).with_hint(BY_HAND));
        }
        roles.hold_until = roles.hold_until.or_else(|| ledger.hold_until(&roles));
        let entry = Entry::Ended {
            at: report.ended,
            rollout: machine.rollout().clone(),
            outcome: report.outcome,
            why: report.why,
            roles,
            tasks: machine.tasks(),
        };
        self.history_writer(lease, ledger.length).append(line(&entry)?).await
    }

    fn nothing_to_do(&self, plan: Plan) -> Rollout {
        let now = self.providers.clock.now();
        let report = Report {
            rollout: None,
            service: plan.service,
            strategy: plan.strategy,
            before: plan.before.map(|before| before.image),
            release: plan.release.image,
            candidate: plan.candidate,
            outcome: Outcome::Promoted,
            why: None,
            stable_was_unhealthy: false,
            problems: Vec::new(),
            notes: Vec::new(),
            began: now,
            ended: now,
            steps: Vec::new(),
        };
        let (_, receiver) = broadcast::channel(1);
        let (sender, _) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move { Ok(report) });
        Rollout { id: None, task, control: Control(sender), updates: Updates(receiver) }
    }

    /// Retires the held place of a service if its time is over; says which, if one was.
    ///
    /// # Errors
    /// `Conflict` while the service is being deployed; what the providers fail with.
    pub async fn settle<N>(&self, service: N) -> Result<Option<Place>>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.retire_held(named(service)?, false).await
    }

    /// Retires the held place of a service whether its time is over or not; there is no fast rollback after that.
    ///
    /// # Errors
    /// As for [`settle`](Self::settle).
    pub async fn settle_now<N>(&self, service: N) -> Result<Option<Place>>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.retire_held(named(service)?, true).await
    }

    pub(super) async fn retire_held(
        &self,
        service: ServiceName,
        now: bool,
    ) -> Result<Option<Place>> {
        self.leased(service, false, move |this, lease| async move {
            this.retire_held_under(&lease, now).await
        })
        .await
    }

    async fn retire_held_under(&self, lease: &Lease, now: bool) -> Result<Option<Place>> {
        let service = &lease.service;
        let ledger = self.settled_ledger(service).await?;
        let due = ledger.roles.hold_until.is_none_or(|until| until <= self.providers.clock.now());
        let Some(held) = ledger.roles.held.clone().filter(|_| due || now) else {
            return Ok(None);
        };
        let found = self.find(service, &ledger).await?;
        if found.world.routing.weight(held.place) != crate::routing::Weight::NONE {
            return Err(Error::new(
                ErrorKind::Foreign,
                format!(
                    "held place {} of {service} gets requests: the routing is {}",
                    held.place, found.world.routing
                ),
            )
            .with_hint("somebody else changed the routing; set it back first"));
        }
        let release = self.release_of(service, &held.revision).await?;
        let plan = self.back_to_held(service, found, &held, release);
        let (updates, _) = broadcast::channel(1);
        let performer = Performer::new(
            Arc::clone(&self.providers),
            RolloutId::new("settle"),
            &plan,
            Timestamp::default(),
            updates,
        );
        performer.drain(held.place, &[], false, super::planning::MAKE_ROOM).await?;
        performer.retire(held.place).await?;
        let entry = Entry::Settled { at: self.providers.clock.now(), place: held.place };
        self.history_writer(lease, ledger.length).append(line(&entry)?).await?;
        Ok(Some(held.place))
    }

    /// Removes the journals and plans of all but the last `keep` rollouts. Releases stay, for rollbacks.
    ///
    /// # Errors
    /// `Conflict` while the service is being deployed.
    pub async fn prune<N>(&self, service: N, keep: usize) -> Result<()>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        self.leased(service, false, move |this, lease| async move {
            let past = this.settled_ledger(&lease.service).await?.past;
            for old in past.iter().rev().skip(keep) {
                this.store.remove(&lease, &old.rollout).await?;
            }
            Ok(Some(()))
        })
        .await
        .map(|_| ())
    }

    /// Works for as long as the lease is kept, a panic being an error. While nobody can tell whether it is, the work rests: it
    /// begins nothing that somebody who took the service over does not expect.
    pub(super) async fn under<T>(
        &self,
        lease: &Lease,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let renewed = Mutex::new(Instant::now());
        let mut keep = pin!(self.keep(lease, &renewed));
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        poll_fn(|context| {
            if let Poll::Ready(lost) = keep.as_mut().poll(context) {
                return Poll::Ready(Err(lost));
            }
            if latest(&renewed).elapsed() >= lease.ttl / RESTS {
                // Woken by the next renewal.
                return Poll::Pending;
            }
            work.as_mut().poll(context).map(|worked| worked.unwrap_or_else(|_| Err(panicked())))
        })
        .await
    }

    /// Renews a lease until that fails.
    async fn keep(&self, lease: &Lease, renewed: &Mutex<Instant>) -> Error {
        loop {
            sleep_until(latest(renewed) + lease.ttl / RENEWED).await;
            // Given up before somebody else can have it, with what a call may take in between.
            while latest(renewed).elapsed() < lease.ttl / 3 * 2 {
                match timeout(lease.ttl / 6, self.store.renew(lease)).await {
                    Ok(Ok(())) => {
                        *renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                        break;
                    }
                    Ok(Err(error)) if !error.is_temporary() => {
                        return error.within("renew the lease");
                    }
                    Ok(Err(_)) => sleep(lease.ttl / 30).await,
                    Err(_) => {}
                }
            }
            if latest(renewed).elapsed() >= lease.ttl / 3 * 2 {
                return Error::new(
                    ErrorKind::Unavailable,
                    format!("the lease of {} could not be renewed in time", lease.service),
                );
            }
        }
    }

    pub(super) async fn give_back(&self, lease: &Lease) {
        if let Err(error) = self.store.release(lease).await {
            tracing::warn!(service = %lease.service, error = error.report(), "the lease was not given back; it will expire");
        }
    }

    fn history_writer(&self, lease: &Lease, length: u64) -> Writer {
        let journal = Journal::History(lease.service.clone());
        Writer { store: Arc::clone(&self.store), lease: lease.clone(), journal, length }
    }

    pub(super) fn owner(&self) -> Owner {
        let host = std::env::var("HOSTNAME").ok().or_else(|| {
            std::fs::read_to_string("/etc/hostname").ok().map(|host| host.trim().to_owned())
        });
        Owner {
            name: self.name.clone(),
            host: host.filter(|host| !host.is_empty()).unwrap_or_else(|| "unknown host".to_owned()),
            pid: std::process::id(),
            since: self.providers.clock.now(),
        }
    }
}

fn latest(renewed: &Mutex<Instant>) -> Instant {
    *renewed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panicked() -> Error {
    Error::new(ErrorKind::Other, "a provider panicked")
        .with_hint("its message is on standard error; please report it to its maker")
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    line(value).map(String::into_bytes)
}

pub(super) fn line<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Other, "a line cannot be written").with_source(e))
}

/// Reads one line of a rollout's journal; the first names the version of the machine that wrote it.
pub(super) fn read_record(text: &str) -> Result<Record> {
    #[derive(serde::Deserialize)]
    struct Head {
        machine: Option<u32>,
    }
    let corrupt = |e: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "it cannot be read").with_hint(BY_HAND).with_source(e)
    };
    let head: Head = serde_json::from_str(text).map_err(corrupt)?;
    match head.machine {
        Some(version) if version > FORMAT => Err(newer("journal", version)),
        _ => serde_json::from_str(text).map_err(corrupt),
    }
}
