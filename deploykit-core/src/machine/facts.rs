use super::event::Seen;
use super::op::Side;
use crate::name::{Place, RevisionId};
use crate::plan::Plan;
use crate::routing::{Routing, Weight};
use crate::time::Timestamp;

/// How far a roll is: what it was last found or made to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rolled {
    /// How many tasks the service is to have, in the direction of the roll.
    pub(super) desired: u32,
    /// By how many tasks somebody has changed the count since the roll began.
    pub(super) changed: i64,
    /// How many stable and the candidate were left with; anything else is somebody's change of the count.
    pub(super) stable: Span,
    pub(super) candidate: Span,
    /// The fewest tasks that the side that goes has had, and how often somebody has added to it since.
    pub(super) fewest: Option<u32>,
    pub(super) added: u32,
    /// Since when tasks are awaited without any that were started or stopped.
    pub(super) waits: Option<Timestamp>,
    /// On the way back stable was awaited in vain: the candidate's tasks may take up its room.
    pub(super) cramped: bool,
}

/// How many tasks a side can have by what was done: more than one number while a change was begun that is not known to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Span {
    pub(super) fn exactly(count: u32) -> Self {
        Self { least: count, most: count }
    }
}

impl Rolled {
    pub(super) fn of(&mut self, side: Side) -> &mut Span {
        match side {
            Side::Stable => &mut self.stable,
            Side::Candidate => &mut self.candidate,
        }
    }
}

/// What has been done or found so far: what undoing is computed from.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) revision: Option<RevisionId>,
    /// Stable as it was first seen.
    pub(super) stable: Option<Seen>,
    pub(super) stable_was_unhealthy: bool,
    /// How long an undo waits for stable.
    pub(super) stable_until: Timestamp,
    /// How often this undo has looked at stable anew.
    pub(super) looked_anew: u32,
    /// How many tasks the candidate was last found to need.
    pub(super) needed: u32,
    /// How many of them were last found healthy together: fewer than these is trouble, whatever is being waited for.
    pub(super) healthy: u32,
    /// The greatest share of the desired count that was launched.
    pub(super) share: Option<Weight>,
    /// Whether a launch of the candidate was wanted, so that there may be tasks.
    pub(super) launched: bool,
    /// Whether one was carried out.
    pub(super) running: bool,
    /// How far a roll is.
    pub(super) roll: Option<Rolled>,
    pub(super) routing_touched: bool,
    /// The routings that were set here.
    pub(super) routings: Vec<Routing>,
    pub(super) test_touched: bool,
    /// Whether a change of the routing or the test route was begun whose outcome is not known.
    pub(super) unconfirmed: bool,
    /// The jobs that were started, and those of them that have ended, by their keys.
    pub(super) jobs_started: Vec<String>,
    pub(super) jobs_ended: Vec<String>,
    pub(super) promoted: bool,
    pub(super) hold_until: Option<Timestamp>,
    pub(super) retired: Vec<Place>,
    pub(super) notes: Vec<String>,
    /// The jobs of which nobody can tell what became of them, until an operator has looked.
    pub(super) uncertain: Vec<String>,
    /// What the undoing that is under way could not do.
    pub(super) problems: Vec<String>,
}

impl Facts {
    /// The place that is held now.
    pub(super) fn held_place(&self, plan: &Plan) -> Option<Place> {
        let held = if self.promoted { &plan.world.stable } else { &plan.world.held };
        held.as_ref().map(|held| held.place).filter(|place| !self.retired.contains(place))
    }
}
