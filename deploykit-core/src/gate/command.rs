use async_trait::async_trait;

use crate::error::Result;
use crate::process::{Program, program_setters, variables};
use crate::provider::{GateContext, HealthGate, Measurement};

/// Runs a command; its exit code is the verdict.
///
/// | exit code | verdict |
/// |---|---|
/// | 0 | pass |
/// | 1 | fail |
/// | any other, or ended by a signal | inconclusive |
///
/// So a command that is not there (127 from a shell), is misused (2) or dies does not condemn the candidate. The last
/// lines of both outputs are the evidence and stand in the journal: print no secrets. The command gets the deployer's
/// environment, no input, and
///
/// | variable | holds |
/// |---|---|
/// | `DEPLOYKIT_SERVICE`, `DEPLOYKIT_ROLLOUT` | their names |
/// | `DEPLOYKIT_PLACE`, `DEPLOYKIT_REVISION` | those of the candidate |
/// | `DEPLOYKIT_STABLE_PLACE` | the place of the version that is replaced |
/// | `DEPLOYKIT_URL`, `DEPLOYKIT_HEADERS` | how live requests reach the service |
/// | `DEPLOYKIT_TEST_URL`, `DEPLOYKIT_TEST_HEADERS` | how testers reach the candidate |
/// | `DEPLOYKIT_TARGETS` | `host:port` of each target of the candidate, separated by commas |
///
/// Headers are `name: value`, one a line. What there is not is not set.
///
/// Dropping a measurement kills the command, but not what it started in the background; a script whose last command
/// takes long begins it with `exec`. The bound is the judge's time-out.
///
/// It does real I/O, which does not fit paused virtual time: in the testing crate's world use that crate's gates or
/// [`gate_fn`](crate::gate_fn).
///
/// ```
/// use deploykit_core::CommandGate;
///
/// let gate = CommandGate::new("sh").with_args(["-c", "curl -sf $DEPLOYKIT_TEST_URL/health || exit 1"]);
/// # let _ = gate;
/// ```
#[derive(Clone, Debug)]
pub struct CommandGate(Program);

program_setters!(CommandGate);

#[async_trait]
impl HealthGate for CommandGate {
    async fn measure(&self, context: &GateContext) -> Result<Measurement> {
        let ended = self.0.run("gate command", variables(context)).await?;
        Ok(match ended.code {
            Some(0) => Measurement::pass(ended.told),
            Some(1) => Measurement::fail(ended.told),
            _ => Measurement::inconclusive(ended.told),
        })
    }
}
