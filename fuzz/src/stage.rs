//! Plans and journals, and whole rollouts of what was read.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deploykit_core::{
    Amount, Approval, Approver, BlueGreen, Change, Clock, Deployer, Journal, MemoryStore, Owner,
    Plan, Rollout, RolloutId, ServiceName, Step, Store as _, Strategy, Timestamp, async_trait,
    hook_fn,
};
use deploykit_testing::{Behaviour, Tap, World, WorldClock};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::Notify;

/// What a rollout may take, in the world's time. Whatever takes longer is cut off: a plan may well soak for a year.
const PATIENCE: Duration = Duration::from_secs(2 * 3_600);
/// How often a rollout may ask for something: one that measures each millisecond is cut off, too.
const ASKED: u32 = 600;
/// More tasks than this only take time.
const TASKS: u32 = 20;

/// Counts what a rollout asks for, and says when that was too much.
#[derive(Clone, Debug, Default)]
struct Budget(Arc<(AtomicU32, Notify)>);

impl Budget {
    fn spend(&self) {
        let (spent, over) = &*self.0;
        if spent.fetch_add(1, Ordering::Relaxed) == ASKED {
            over.notify_one();
        }
    }

    async fn over(&self) {
        self.0.1.notified().await;
    }
}

/// The world's clock, that counts who looks at it.
#[derive(Debug)]
struct Counted(WorldClock, Budget);

impl Clock for Counted {
    fn now(&self) -> Timestamp {
        self.1.spend();
        self.0.now()
    }
}

/// Says yes.
#[derive(Debug)]
struct Agreed;

#[async_trait]
impl Approver for Agreed {
    async fn ask(&self, _: &deploykit_core::ApprovalRequest) -> deploykit_core::Result<Approval> {
        Ok(Approval::Approved { by: "bob".into() })
    }
}

pub(crate) fn owner() -> Owner {
    Owner { name: "ci".into(), host: "runner-1".into(), pid: 1, since: Timestamp::default() }
}

/// Two tasks of `web:1` serve in place A, and a deployer knows the gates, hooks and approvers that the seeds name.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) web: ServiceName,
    pub(crate) store: MemoryStore,
    pub(crate) deployer: Deployer,
    budget: Budget,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let world = World::new(7);
        world.image("web:1", Behaviour::good()).unwrap();
        world.image("web:2", Behaviour::good()).unwrap();
        let web = world.already_runs("web", "web:1", 2).unwrap();
        let (store, budget, tap) = (MemoryStore::new(), Budget::default(), Tap::new());
        let counted = budget.clone();
        tap.strike_by(move |_, _, _| {
            counted.spend();
            None
        });
        let deployer = Deployer::builder()
            .registry(world.registry())
            .orchestrator(tap.wrap(world.orchestrator()))
            .balancer(tap.wrap(world.balancer()))
            .store(tap.wrap(store.clone()))
            .clock(Counted(world.clock(), budget.clone()))
            .gate("smoke", world.http_gate("/"))
            .gate("live", world.http_gate("/").live())
            .hook("announce", hook_fn(|_| async { Ok(()) }))
            .approver("bob", Agreed)
            .owner("alice")
            .build();
        Self { world, web, store, deployer, budget }
    }

    pub(crate) async fn plan(&self, strategy: &dyn Strategy) -> Plan {
        self.deployer.plan(&self.web, strategy, Change::to("web:2")).await.unwrap()
    }

    /// Runs a rollout to its end, or until that takes too long.
    async fn drive(&self, rollout: Rollout) {
        tokio::select! {
            ended = rollout => if let Ok(report) = ended {
                let _ = (report.to_string(), report.advice());
            },
            () = self.budget.over() => {}
            () = tokio::time::sleep(PATIENCE) => {}
        }
    }
}

/// On time that does not pass by itself.
pub(crate) fn paused<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

/// What the stage's own plan is, as any strategy would make it.
fn own_plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| paused(async { Stage::new().plan(&BlueGreen::new()).await }))
}

/// A plan from JSON: shown, estimated, checked; then run as it is, and fitted to the world that there is. What the check
/// lets pass breaks no rule of safety.
pub fn plan(data: &[u8]) {
    let Ok(plan) = Plan::from_json(data) else { return };
    let _ = (plan.to_string(), plan.to_mermaid(), plan.estimate());
    let json = plan.to_json().unwrap();
    assert_eq!(Plan::from_json(json.as_bytes()).unwrap(), plan);
    if counts_too_much(&serde_json::from_str(&json).unwrap()) {
        return;
    }
    let own = own_plan();
    let fitted = {
        let mut fitted = plan.clone();
        fitted.service = own.service.clone();
        fitted.world = own.world.clone();
        fitted.before = own.before.clone();
        fitted.candidate = own.candidate;
        fitted.release.image = own.release.image.clone();
        fitted
    };
    // A roll may be allowed to stop the only task there is.
    let may_be_down =
        |step: &Step| matches!(step, Step::Roll(roll) if roll.unavailable != Amount::Count(0));
    let may_be_down = plan.steps.iter().any(may_be_down);
    for plan in [plan, fitted] {
        paused(async {
            let stage = Stage::new();
            if let Ok(rollout) = stage.deployer.deploy(plan).await {
                stage.drive(rollout).await;
                if !may_be_down {
                    stage.world.assert_safe();
                }
            }
        });
    }
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// Whether it speaks of more tasks than the world should have to start.
fn counts_too_much(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(counts_too_much),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let counts = matches!(name.as_str(), "desired" | "replicas" | "tasks");
            counts && value.as_u64().is_some_and(|count| count > TASKS.into())
                || counts_too_much(value)
        }),
        _ => false,
    }
}

/// A store as lines: the plan of the last rollout in its history, the history of the service, the journal of that rollout, told
/// apart by what they hold. It is shown, and what is open is taken up.
pub fn journal(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (mut plan, mut rollout) = (None, RolloutId::new("web-1"));
    let (mut history, mut events) = (Vec::new(), Vec::new());
    // A store takes no line with a line break in it, and one that is not JSON neither.
    for line in text.lines().filter(|line| !line.contains('\r')) {
        match serde_json::from_str::<Value>(line) {
            Ok(value) if counts_too_much(&value) => return,
            Ok(value) if value.get("steps").is_some() => plan = Some(line),
            Ok(value) if value.get("entry").is_some() => {
                if let (Some("begun"), Some(id)) =
                    (field(&value, "entry"), field(&value, "rollout"))
                {
                    rollout = RolloutId::new(id);
                }
                history.push(line.to_owned());
            }
            Ok(_) => events.push(line.to_owned()),
            Err(_) => {}
        }
    }
    let own = own_plan().to_json().unwrap();
    paused(async {
        let stage = Stage::new();
        let (store, web) = (&stage.store, &stage.web);
        let lease = store.acquire(web, &owner(), PATIENCE).await.unwrap();
        store.put(&lease, rollout.as_str(), plan.unwrap_or(&own).as_bytes()).await.unwrap();
        store.append(&lease, &Journal::History(web.clone()), 0, &history).await.unwrap();
        store.append(&lease, &Journal::Rollout(web.clone(), rollout), 0, &events).await.unwrap();
        store.release(&lease).await.unwrap();

        let deployer = &stage.deployer;
        let _ = (deployer.status(web).await, deployer.history(web).await);
        let _ = deployer.plan_rollback(web, &BlueGreen::new()).await;
        if let Ok(Some(rollout)) = deployer.recover(web).await {
            stage.drive(rollout).await;
        }
        let _ = deployer.settle(web).await;
    });
}
