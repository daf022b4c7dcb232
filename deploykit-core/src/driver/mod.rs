//! Asks the machine what it wants, has it performed, writes the answers down and feeds them back.

mod ask;
mod healthy;
mod jobs;
mod perform;
mod provided;
mod retry;
mod routes;
mod settled;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;
use tracing::{debug, info, warn};

pub use ask::Ask;
pub(crate) use ask::Request;
pub(crate) use perform::{Performer, Providers, missing};
pub(crate) use provided::{CALL, Provided};
pub(crate) use retry::{Jitter, insist};
pub(crate) use settled::Settled;
pub use update::{Update, UpdateKind};

use crate::error::{Error, ErrorKind, Result};
use crate::machine::{Call, Effect, EffectId, Event, Machine, Phase, Record};
use crate::name::JobId;
use crate::outcome::Report;
use crate::provider::Approval;
use crate::store::{Journal, Lease, Store};
use perform::Answer;

/// How long it is waited before requests are looked for again where that failed.
const REQUEST_PAUSE: Duration = Duration::from_secs(5);

/// What a person asks of a rollout in progress.
pub(crate) type Command = Event;

/// The journal of one rollout, written under a lease.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Lease,
    pub(crate) journal: Journal,
    pub(crate) length: u64,
}

impl Writer {
    /// Appends a line. A failure that may pass is waited for; an append whose answer was lost is recognised.
    pub(crate) async fn append(&mut self, line: String) -> Result<()> {
        let lines = [line];
        let append = || async {
            let appended = self.store.append(&self.lease, &self.journal, self.length, &lines).await;
            let Err(error) = appended else { return Ok(()) };
            match self.store.read(&self.journal, self.length).await {
                Ok(there) if there == lines => Ok(()),
                _ => Err(error),
            }
        };
        patiently(&self.lease, append)
            .await
            .map_err(|e| e.within(format_args!("write the {}", self.journal)))?;
        self.length += 1;
        Ok(())
    }
}

/// Calls the store until it answers, or fails in a way that does not pass, or the lease could not be kept anyway.
pub(crate) async fn patiently<T, F>(lease: &Lease, call: impl Fn() -> F + Send) -> Result<T>
where
    F: Future<Output = Result<T>> + Send,
{
    let jitter = Jitter::new((lease.service.as_str(), lease.token));
    insist(&jitter, lease.ttl / 3 * 2, call).await
}

/// Runs one rollout to its end.
#[derive(Debug)]
pub(crate) struct Driver {
    machine: Machine,
    performer: Performer,
    writer: Writer,
    updates: broadcast::Sender<Update>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Keeps the channel open when nobody else holds a control.
    _keep: mpsc::UnboundedSender<Command>,
}

type Answered = (EffectId, Result<Answer>);

/// The calls under way.
#[derive(Default)]
struct Running {
    futures: FuturesUnordered<Abortable<BoxFuture<'static, Answered>>>,
    handles: BTreeMap<EffectId, (AbortHandle, bool)>,
    /// The last job that was started here, of which people were told then.
    started: Option<JobId>,
}

impl Driver {
    pub(crate) fn new(
        machine: Machine,
        performer: Performer,
        writer: Writer,
        updates: broadcast::Sender<Update>,
        commands: (mpsc::UnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    ) -> Self {
        let (keep, commands) = commands;
        Self { machine, performer, writer, updates, commands, _keep: keep }
    }

    /// Drives the rollout from `first` on until it has an outcome.
    ///
    /// # Errors
    /// When nothing can be decided any more: the lease is lost, or the store fails for good. The rollout is unfinished
    /// then, and `recover` takes it up.
    pub(crate) async fn run(mut self, first: Event) -> Result<(Machine, Report)> {
        self.record(first, None).await?;
        let mut running = Running::default();
        let mut requests = self.requests(self.machine.requests());
        loop {
            self.reconcile(&mut running);
            if self.machine.outcome().is_some() && running.futures.is_empty() {
                break;
            }
            if running.futures.is_empty() && !self.machine.is_paused() {
                return Err(Error::new(
                    ErrorKind::Other,
                    format!("{} wants nothing and has not ended", self.machine.rollout()),
                )
                .with_hint("this is a defect of deploykit; please report it with the journal"));
            }
            tokio::select! {
                biased;
                Some(command) = self.commands.recv() => self.record(command, None).await?,
                (from, lines) = &mut requests => {
                    let mut next = from;
                    for line in lines {
                        self.requested(next, &line).await?;
                        next += 1;
                    }
                    requests = self.requests(next);
                }
                Some(answered) = running.futures.next() => {
                    if let Ok((id, result)) = answered {
                        running.handles.remove(&id);
                        self.answered(id, result).await?;
                    }
                }
            }
        }
        let report = self.machine.report();
        Ok((self.machine, report))
    }

    /// Starts what is newly wanted and cancels what is not wanted any more, except mutations.
    fn reconcile(&self, running: &mut Running) {
        let wanted = self.machine.effects();
        running.handles.retain(|id, (handle, mutation)| {
            let keep = *mutation || wanted.iter().any(|effect| effect.id == *id);
            if !keep {
                handle.abort();
            }
            keep
        });
        for Effect { id, call } in wanted {
            if running.handles.contains_key(&id) {
                continue;
            }
            debug!(effect = %id, call = call.name(), "begin");
            // Of a job that somebody else started, people are told when it is awaited.
            let is_told = matches!(&call, Call::AwaitJob(job) if running.started.as_ref() == Some(&job.run.id));
            if !is_told && let Some((what, at_most)) = call.announced(self.performer.now()) {
                self.performer.show(UpdateKind::Begins { what, at_most });
            }
            if let Call::StartJob(job) = &call {
                running.started = Some(job.run.id.clone());
            }
            let (handle, registration) = AbortHandle::new_pair();
            running.handles.insert(id, (handle, call.is_mutation()));
            let performer = self.performer.clone();
            let revision = self.machine.revision().cloned();
            let future: BoxFuture<'static, Answered> =
                Box::pin(async move { (id, performer.perform(call, revision).await) });
            running.futures.push(Abortable::new(future, registration));
        }
    }

    async fn answered(&mut self, effect: EffectId, result: Result<Answer>) -> Result<()> {
        let event = match result {
            Ok(Answer::Registered(revision)) => Event::Registered { effect, revision },
            Ok(Answer::Surveyed(survey)) => Event::Surveyed { effect, survey },
            Ok(Answer::Done(note)) => Event::Done { effect, note },
            Ok(Answer::Measured(gate, measurement)) => {
                let passes_before = self.machine.passes(effect);
                Event::Measured { effect, gate, measurement, passes_before }
            }
            Ok(Answer::Decided(Approval::Approved { by })) => Event::Approved { by },
            Ok(Answer::Decided(Approval::Rejected { by, why })) => Event::Rejected { by, why },
            Err(error) => Event::failed(effect, &error),
        };
        self.record(event, None).await
    }

    /// The next requests that somebody leaves in the store, with the first one's number.
    fn requests(&self, from: u64) -> BoxFuture<'static, (u64, Vec<String>)> {
        let (store, rollout) = (Arc::clone(&self.writer.store), self.machine.rollout().clone());
        let service = self.machine.plan().service.clone();
        Box::pin(async move {
            loop {
                match store.posted(&service, &rollout, from).await {
                    Ok(lines) if !lines.is_empty() => return (from, lines),
                    Ok(_) => {}
                    Err(error) => debug!(error = error.report(), "requests cannot be read"),
                }
                sleep(REQUEST_PAUSE).await;
            }
        })
    }

    /// Takes one request; what this version does not understand is not for it.
    async fn requested(&mut self, number: u64, line: &str) -> Result<()> {
        match serde_json::from_str::<Request>(line) {
            Ok(request) => self.record(request.into(), Some(number)).await,
            Err(error) => {
                warn!(%error, number, "a request cannot be understood");
                Ok(())
            }
        }
    }

    /// Appends, then applies, then tells.
    async fn record(&mut self, event: Event, request: Option<u64>) -> Result<()> {
        let record = Record { at: self.performer.now(), request, event };
        if self.machine.keeps(&record.event) {
            let line = serde_json::to_string(&record).map_err(|e| {
                Error::new(ErrorKind::Other, "an event cannot be written").with_source(e)
            })?;
            self.writer.append(line).await?;
        }
        let before = (self.machine.step(), self.machine.phase().clone(), self.machine.is_paused());
        let notes = self.machine.notes().len();
        self.machine.apply(&record);
        for note in self.machine.notes().iter().skip(notes) {
            self.performer.show(UpdateKind::Note { text: note.clone() });
        }
        self.tell(&record, before);
        Ok(())
    }

    fn tell(&self, record: &Record, before: (Option<usize>, Phase, bool)) {
        let (step, phase, paused) = before;
        let tell = |kind| self.performer.tell(&self.updates, kind);
        if let Event::Measured { gate, measurement, .. } = &record.event {
            tell(UpdateKind::Measured { gate: gate.clone(), measurement: measurement.clone() });
        }
        if paused != self.machine.is_paused() {
            tell(if paused { UpdateKind::Unpaused } else { UpdateKind::Paused });
        }
        if self.machine.step() != step
            && let Some(index) = self.machine.step()
            && let Some(step) = self.machine.plan().steps.get(index)
        {
            let (of, text) = (self.machine.plan().steps.len(), self.machine.plan().describe(index));
            info!(rollout.id = %self.machine.rollout(), step.index = index + 1, step.name = step.name(), "step");
            tell(UpdateKind::Step {
                number: index + 1,
                of,
                name: step.name().to_owned(),
                text: text.unwrap_or_default(),
            });
        }
        match self.machine.phase() {
            Phase::Undo(why) if !matches!(phase, Phase::Undo(_)) => {
                info!(rollout.id = %self.machine.rollout(), why = why.text, "undoing");
                tell(UpdateKind::Undoing { why: why.text.clone() });
            }
            Phase::Ended(outcome, why) if !matches!(phase, Phase::Ended(..)) => {
                info!(rollout.id = %self.machine.rollout(), outcome = outcome.name(), "ended");
                tell(UpdateKind::Ended { outcome: outcome.clone(), why: why.clone() });
            }
            _ => {}
        }
    }
}
