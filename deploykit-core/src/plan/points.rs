use super::{HookUse, JobUse, Plan, Step};
use crate::provider::Point;
use crate::routing::Weight;

impl Plan {
    /// The points before and after a step.
    pub(crate) fn points(&self, index: usize) -> (Vec<Point>, Vec<Point>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let Some(step) = self.steps.get(index) else { return (before, after) };
        let earlier = self.steps.get(..index).unwrap_or_default();
        let first = |is: fn(&Step) -> bool| !earlier.iter().any(is);
        if index == 0 {
            before.push(Point::ReconcileService);
        }
        match step {
            Step::Launch { .. } if first(|step| matches!(step, Step::Launch { .. })) => {
                before.push(Point::PreScaleUp);
            }
            Step::AwaitHealthy { .. }
                if first(|step| matches!(step, Step::AwaitHealthy { .. })) =>
            {
                after.push(Point::PostScaleUp);
            }
            Step::OpenTest => {
                before.push(Point::TestTrafficShift);
                after.push(Point::PostTestTrafficShift);
            }
            Step::Shift { weight } => {
                if first(|step| matches!(step, Step::Shift { .. })) {
                    before.push(Point::PreProductionTrafficShift);
                }
                before.push(Point::ProductionTrafficShift);
                if *weight == Weight::ALL && !earlier.contains(step) {
                    after.push(Point::PostProductionTrafficShift);
                }
            }
            Step::Roll(_) => {
                before.extend([
                    Point::PreScaleUp,
                    Point::PreProductionTrafficShift,
                    Point::ProductionTrafficShift,
                ]);
                after.extend([Point::PostScaleUp, Point::PostProductionTrafficShift]);
            }
            Step::Hold { .. } | Step::Retire { .. } if earlier.contains(&Step::Promote) => {
                before.push(Point::CleanUp);
            }
            _ => {}
        }
        (before, after)
    }

    /// The hooks of a point, in the order in which they were added.
    pub(crate) fn hooks_at(&self, point: Point) -> impl Iterator<Item = &HookUse> {
        self.hooks.iter().filter(move |hook| hook.point == point)
    }

    /// The jobs of a point, in the order in which they were added.
    pub(crate) fn jobs_at(&self, point: Point) -> impl Iterator<Item = &JobUse> {
        self.jobs.iter().filter(move |used| used.point == point)
    }

    /// The points that the plan comes to, apart from those of the way back.
    pub(super) fn all_points(&self) -> Vec<Point> {
        let points = (0..self.steps.len()).flat_map(|index| {
            let (before, after) = self.points(index);
            before.into_iter().chain(after)
        });
        let mut all: Vec<_> = points.collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
