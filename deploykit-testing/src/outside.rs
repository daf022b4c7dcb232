//! What happens to a service though no provider was called.

use deploykit_core::{Place, Routing};

use crate::state::State;
use crate::tasks::Moment;

impl State {
    /// Makes a place that was just launched one that has been serving for a while.
    pub(crate) fn grow_up_place(&mut self, number: usize, place: Place) {
        for task in self.task_numbers(number, place) {
            self.grow_up(number, task);
            self.register_target(number, place, task);
        }
        let now = self.now;
        if let Some(service) = self.services.get_mut(number) {
            for target in &mut service.targets {
                target.checked_from = now;
            }
        }
    }

    /// Makes a routing effective, whatever was accepted before.
    pub(crate) fn settle_routing(&mut self, number: usize, routing: Routing) {
        if let Some(service) = self.services.get_mut(number) {
            service.accepted.clear();
            service.routing = routing;
            self.version += 1;
        }
    }

    /// Changes the number of tasks of a place, as an autoscaler does.
    pub(crate) fn scale(&mut self, number: usize, place: Place, count: u32) {
        let mut living = self.task_numbers(number, place);
        living.retain(|task| {
            self.task(number, *task).is_some_and(|task| task.gone_at.is_none() && !task.leaving)
        });
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        if let Some(run) = self.services.get_mut(number).and_then(|s| s.runs.get_mut(&place)) {
            run.desired = count;
            self.version += 1;
        }
        for task in living.iter().skip(wanted) {
            self.drain_tasks(number, place, &[*task]);
            self.with_task(number, *task, |task| task.leaving = true);
            let at = self.last_due_at(number, *task).unwrap_or(self.now);
            self.foresee(number, *task, at, Moment::Leave);
        }
        let there = self.task_numbers(number, place);
        let missing = wanted.saturating_sub(living.len());
        self.start_tasks(number, place, u32::try_from(missing).unwrap_or(u32::MAX));
        for task in self.task_numbers(number, place) {
            if !there.contains(&task) {
                self.register_target(number, place, task);
            }
        }
    }

    /// A task that has drained is taken out and stopped.
    pub(crate) fn leave(&mut self, number: usize, task: u64) {
        if let Some(service) = self.services.get_mut(number) {
            service.targets.retain(|target| target.task != Some(task));
        }
        self.end(number, task);
    }

    /// The tasks of a place in the order of their start.
    pub(crate) fn task_numbers(&self, number: usize, place: Place) -> Vec<u64> {
        let service = self.services.get(number);
        let tasks = service.into_iter().flat_map(|service| service.tasks_of(place));
        tasks.map(|(task, _)| task).collect()
    }
}
