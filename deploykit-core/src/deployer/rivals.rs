//! When somebody else deploys the service: asking him, waiting for him, having his rollout undone, taking over from him.

use std::future::IntoFuture;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::ledger::Ledger;
use super::running::RESTS;
use super::{Deployer, Past, Rollout, named, unfinished};
use crate::driver::{Ask, CALL, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Place, RolloutId, ServiceName};
use crate::outcome::{Outcome, Report};
use crate::time::human;

/// How often it is looked whether a rollout has ended.
const LOOK: Duration = Duration::from_secs(1);

/// What [`Deployer::supervise`] did for a service.
#[derive(Debug)]
#[non_exhaustive]
pub enum Supervised {
    /// It took up a rollout whose deployer had died, and brought it to its end.
    Recovered(Box<Report>),
    /// It retired a held place whose time was over.
    Settled(Place),
}

impl Deployer {
    /// Asks something of the open rollout of a service, in whatever process it runs; returns its name. It is answered within
    /// a second or so, and asked again of whoever recovers the rollout if its deployer dies before.
    ///
    /// In the same process [`Rollout::control`] does the same.
    ///
    /// ```
    /// # async fn approve(deployer: deploykit_core::Deployer) -> deploykit_core::Result<()> {
    /// use deploykit_core::Ask;
    ///
    /// deployer.ask("web", Ask::Approve, "ann").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` when no rollout of the service is open.
    pub async fn ask<N>(&self, service: N, ask: Ask, by: impl Into<String>) -> Result<RolloutId>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.post(&named(service)?, ask, by.into()).await
    }

    async fn post(&self, service: &ServiceName, ask: Ask, by: String) -> Result<RolloutId> {
        let ledger = Ledger::read(&self.store, service).await?;
        let running = ledger.unfinished().filter(|past| past.outcome.is_none());
        let rollout = running.map(|past| past.rollout.clone()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no rollout of {service} is open"))
        })?;
        let line = super::running::line(&Request { by, ask })?;
        self.store.post(service, &rollout, &line).await?;
        Ok(rollout)
    }

    /// Waits until nobody deploys a service any more. A rollout whose deployer has died is recovered first.
    ///
    /// Plan after it: the world is another one then. Somebody else may still be quicker, which the next call tells.
    ///
    /// # Errors
    /// `Timeout`, naming who deploys it, when that takes longer than `at_most`; `Conflict` for a rollout that needs an
    /// operator.
    pub async fn wait_for_end<N>(&self, service: N, at_most: Duration) -> Result<()>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        self.await_end(named(service)?, at_most).await
    }

    async fn await_end(&self, service: ServiceName, at_most: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let open = Ledger::read(&self.store, &service).await?.unfinished().cloned();
            let over = began.elapsed() >= at_most;
            let held = match open {
                Some(past) if past.outcome.is_some() => return Err(unfinished(&service, &past)),
                Some(past) if over => {
                    let ledger = Ledger::read(&self.store, &service).await?;
                    let open = self.open(&service, &ledger).await?;
                    return Err(not_ended(&service, open.as_ref().unwrap_or(&past), at_most));
                }
                Some(_) => match self.take_up(service.clone()).await {
                    Ok(Some(rollout)) => {
                        let left = at_most.saturating_sub(began.elapsed());
                        // It goes on without anybody who awaits it.
                        timeout(left, rollout.into_future()).await.ok().transpose()?;
                        None
                    }
                    Ok(None) => None,
                    Err(error) => Some(error),
                },
                None => {
                    let free = self.leased(service.clone(), false, |_, _| async { Ok(Some(())) });
                    match free.await {
                        Ok(_) => return Ok(()),
                        Err(error) => Some(error),
                    }
                }
            };
            match held {
                Some(error) if over || error.kind() != ErrorKind::Conflict => return Err(error),
                _ => sleep(LOOK.min(at_most.saturating_sub(began.elapsed()))).await,
            }
        }
    }

    /// Has the open rollout of a service undone, whoever runs it, and waits until it has ended; nothing where none is open.
    /// One that brings what `change` asks for is left alone and waited for, so that nothing is moved twice.
    ///
    /// One that is past its promotion ends as promoted. Plan after it: the world is another one then.
    ///
    /// ```
    /// # use deploykit_core::{BlueGreen, Change, Deployer, ErrorKind, Rollout};
    /// # use std::time::Duration;
    /// # async fn deploy(deployer: Deployer) -> deploykit_core::Result<Rollout> {
    /// let change = Change::to("registry:5000/web:3");
    /// deployer.supersede("web", &change, Duration::from_secs(600)).await?;
    /// deployer.rollout("web", &BlueGreen::new(), change).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`wait_for_end`](Self::wait_for_end), and for planning where the change cannot be read.
    pub async fn supersede<N>(
        &self,
        service: N,
        change: &super::Change,
        at_most: Duration,
    ) -> Result<()>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        let ledger = Ledger::read(&self.store, &service).await?;
        if let Some(past) = ledger.unfinished().filter(|past| past.outcome.is_none()) {
            let plan = self.kept_plan(&service, &past.rollout).await?;
            let wanted = self.wanted(&service, plan.before.as_ref(), change).await?;
            if plan.release.digest() != wanted.digest() {
                match self.post(&service, Ask::Abort, self.name.clone()).await {
                    // It has ended by itself.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    asked => drop(asked?),
                }
            }
        }
        self.await_end(service, at_most).await
    }

    /// Takes a service away from a deployer that lives and does nothing any more, and recovers its rollout as
    /// [`recover`](Self::recover) does. For an operator who knows; a deployer that died needs none of this.
    ///
    /// From the start of this call on, the former one cannot decide anything. It may not know yet, and a call to a provider that it
    /// has under way can still land, so nothing is done here for a quarter of a lease's time and the 15 s of a call, which is half a
    /// minute; fetching an image and stopping tasks may take longer.
    ///
    /// # Errors
    /// As for [`recover`](Self::recover).
    pub async fn take_over<N>(&self, service: N) -> Result<Option<Rollout>>
    where
        N: TryInto<ServiceName> + Send,
        Error: From<N::Error>,
    {
        let service = named(service)?;
        let lease = self.store.steal(&service, &self.owner(), self.lease).await?;
        let wait = async {
            sleep(lease.ttl / RESTS + CALL).await;
            Ok(())
        };
        let waited = self.under(&lease, wait).await;
        self.give_back(&lease).await;
        waited?;
        self.take_up(service).await
    }

    /// Does what nobody is left to do, for each service in the store: recovers rollouts whose deployers died, and retires held
    /// places whose time is over. Call it now and then, from a cron job or a loop; returns when all that is done.
    ///
    /// Services that somebody works on are left alone. One that needs an operator is an error of its own each time, until
    /// somebody has mended it and called [`recover`](Self::recover).
    ///
    /// # Errors
    /// When the store cannot list its services. What fails for one service stands beside it, and stops no other.
    pub async fn supervise(&self) -> Result<Vec<(ServiceName, Result<Supervised>)>> {
        let services = self.store.services().await?;
        let all = services.into_iter().map(|service| async {
            let done = self.supervise_one(&service).await.transpose();
            done.map(|done| (service, done))
        });
        Ok(join_all(all).await.into_iter().flatten().collect())
    }

    async fn supervise_one(&self, service: &ServiceName) -> Result<Option<Supervised>> {
        let ledger = Ledger::read(&self.store, service).await?;
        let done = match ledger.unfinished() {
            Some(past) if past.outcome == Some(Outcome::NeedsOperator) => {
                return Err(unfinished(service, past));
            }
            Some(_) => match self.take_up(service.clone()).await {
                Ok(Some(rollout)) => {
                    rollout.await.map(|report| Some(Supervised::Recovered(Box::new(report))))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            None if ledger.roles.held.is_some() => self
                .retire_held(service.clone(), false)
                .await
                .map(|place| place.map(Supervised::Settled)),
            None => Ok(None),
        };
        match done {
            // Somebody is at work.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            done => done,
        }
    }
}

fn not_ended(service: &ServiceName, past: &Past, at_most: Duration) -> Error {
    let what = format!(
        "{} of {service} has not ended within {}; {} took it up last",
        past.rollout,
        human(at_most),
        past.by
    );
    Error::new(ErrorKind::Timeout, what)
        .with_hint("wait longer; if its deployer hangs, take_over takes the service away from it")
}
