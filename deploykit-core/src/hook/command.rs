use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::process::{Program, Variable, program_setters, variables};
use crate::provider::{Hook, HookContext};

/// The longest reason that a command is told, in characters: well within what Linux lets a variable have.
const LONGEST: usize = 8 << 10;

/// Runs a command. Exit code 0 is success; anything else is an error with the last lines of both outputs, which stand in
/// the journal: print no secrets.
///
/// The command gets the deployer's environment, no input, the variables of a `CommandGate`, and
///
/// | variable | holds |
/// |---|---|
/// | `DEPLOYKIT_POINT` | a [`Point`](crate::Point), as its `Display` writes it |
/// | `DEPLOYKIT_IMAGE`, `DEPLOYKIT_DIGEST` | the image that is rolled out, as it was asked for, and what it is |
/// | `DEPLOYKIT_SIDECARS` | further images: `container: image@digest`, one a line |
/// | `DEPLOYKIT_BEFORE_IMAGE`, `DEPLOYKIT_BEFORE_DIGEST` | the same of the image that it replaces |
/// | `DEPLOYKIT_WHY` | why it is undone, at `ON_UNDO` and `ON_UNDONE` |
///
/// What there is not is not set. The plan has the time limit; a command that is not done by then is killed, but not what
/// it started in the background; a script whose last command takes long begins it with `exec`.
///
/// ```
/// use deploykit_core::CommandHook;
///
/// let migrate = CommandHook::new("./migrate").with_args(["--to", "latest"]);
/// # let _ = migrate;
/// ```
#[derive(Clone, Debug)]
pub struct CommandHook(Program);

program_setters!(CommandHook);

#[async_trait]
impl Hook for CommandHook {
    async fn run(&self, context: &HookContext) -> Result<()> {
        let told = variables(&context.rollout).into_iter().chain(of_a_hook(context));
        let ended = self.0.run("hook command", told).await?;
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(Error::new(ErrorKind::Other, ended.told)),
        }
    }
}

fn of_a_hook(context: &HookContext) -> [Variable; 7] {
    let HookContext { point, why, release, before, .. } = context;
    let before = before.as_ref().map(|before| &before.image);
    let sidecars: Vec<_> = release
        .sidecars
        .iter()
        .map(|(container, image)| format!("{container}: {}", image.pull_name()))
        .collect();
    [
        ("DEPLOYKIT_POINT", Some(point.to_string())),
        ("DEPLOYKIT_IMAGE", Some(release.image.asked.to_string())),
        ("DEPLOYKIT_DIGEST", Some(release.image.digest.to_string())),
        ("DEPLOYKIT_SIDECARS", (!sidecars.is_empty()).then(|| sidecars.join("\n"))),
        ("DEPLOYKIT_BEFORE_IMAGE", before.map(|image| image.asked.to_string())),
        ("DEPLOYKIT_BEFORE_DIGEST", before.map(|image| image.digest.to_string())),
        // Foreign words: what no environment can hold would keep the command from starting.
        (
            "DEPLOYKIT_WHY",
            why.as_ref().map(|why| why.replace('\0', " ").chars().take(LONGEST).collect()),
        ),
    ]
}
