//! An Engine that nobody else uses, so that its daemon may be restarted.
//!
//! The program runs once more inside of namespaces of its own, for processes, mounts and the network. What it starts there
//! neither disturbs the machine's Engine nor outlives it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use deploykit::{Error, ErrorKind, Result};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::asked_to_end;
use crate::draw::IMAGES;
use crate::engine::Bare;
use crate::site::{HAPROXY_IMAGE, REGISTRY_IMAGE};

/// The word that makes this program the one inside; the directory of the Engine and its storage driver follow.
pub(crate) const ROLE: &str = "inside";
/// The first process of the namespaces: it reaps what others leave. Another Engine's sockets are hidden from this one's.
const FIRST: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && \"$@\"";
const NEEDS: &str = "restarts of a daemon are played on an Engine of its own, which needs root, `dockerd`, `unshare` and \
                     `ip` on this machine";
/// How long a daemon may take to end and to begin; it gives its containers ten seconds.
const LONGEST: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs this program inside, with these words, and ends as it does.
pub(crate) async fn enter(words: &[String]) -> Result<ExitCode> {
    let dir = std::env::temp_dir().join(format!("deploykit-engine-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(failed("make the directory of the Engine"))?;
    let ended = tokio::select! {
        ended = inside(&dir, words) => ended,
        by = asked_to_end() => Err(Error::new(ErrorKind::Other, format!("ended by {by}"))),
    };
    std::fs::remove_dir_all(&dir).map_err(failed("remove the directory of the Engine"))?;
    ended
}

async fn inside(dir: &Path, words: &[String]) -> Result<ExitCode> {
    let driver = docker(&["info", "--format", "{{.Driver}}"]).await?;
    let archive = images(dir).display().to_string();
    let mut save = vec!["save", "--output", &archive, HAPROXY_IMAGE, REGISTRY_IMAGE];
    save.extend(IMAGES.map(|(image, _)| image));
    docker(&save).await?;
    let this = std::env::current_exe().map_err(failed("find this program"))?;
    let ended = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", FIRST, "sh"])
        .arg(this)
        .args([Path::new(ROLE), dir, Path::new(driver.trim())])
        .args(words)
        .env("DOCKER_HOST", address(dir))
        .kill_on_drop(true)
        .status()
        .await
        .map_err(failed("run unshare"))?;
    Ok(ended.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, Into::into))
}

fn address(dir: &Path) -> String {
    format!("unix://{}", dir.join("engine.sock").display())
}

fn images(dir: &Path) -> PathBuf {
    dir.join("images.tar")
}

/// What a command of Docker's client prints.
async fn docker(arguments: &[&str]) -> Result<String> {
    let done =
        Command::new("docker").args(arguments).output().await.map_err(failed("run docker"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(Error::new(ErrorKind::Other, format!("docker {}: {}", arguments.join(" "), why.trim())))
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |why| {
        Error::new(ErrorKind::Other, format!("cannot {what}")).with_source(why).with_hint(NEEDS)
    }
}

/// The daemon of that Engine.
#[derive(Debug)]
pub(crate) struct Daemon {
    dir: PathBuf,
    driver: String,
    process: Child,
}

impl Daemon {
    /// Starts it, and gives it the machine's images.
    pub(crate) async fn start(dir: &str, driver: &str) -> Result<Self> {
        let (dir, driver) = (PathBuf::from(dir), driver.to_owned());
        // The machine's settings are for the machine's Engine.
        std::fs::write(dir.join("daemon.json"), "{}").map_err(failed("write its settings"))?;
        let process = run(&dir, &driver)?;
        let daemon = Self { dir, driver, process };
        daemon.until_it_answers().await?;
        let archive = images(&daemon.dir).display().to_string();
        docker(&["load", "--quiet", "--input", &archive]).await?;
        Ok(daemon)
    }

    /// Ends it, by SIGKILL or as a machine does that goes down, and starts it again. It brings back what is to run.
    pub(crate) async fn restart(&mut self, by_kill: bool) -> Result<()> {
        if by_kill {
            self.process.start_kill().map_err(failed("kill the daemon"))?;
        } else {
            let number = self.process.id().unwrap_or_default().to_string();
            let asked = Command::new("kill").arg(number).status().await;
            asked.map_err(failed("end the daemon"))?;
        }
        within("end", self.process.wait()).await?.map_err(failed("await the daemon's end"))?;
        self.process = run(&self.dir, &self.driver)?;
        self.until_it_answers().await
    }

    async fn until_it_answers(&self) -> Result<()> {
        let engine = Bare::at(&address(&self.dir))?;
        let answers = async {
            while engine.get("/version").await.is_err() {
                sleep(LOOK_EVERY).await;
            }
        };
        let answered = within("begin", answers).await;
        answered.map_err(|error| error.with_hint(format!("see {}", log(&self.dir).display())))
    }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("daemon.log")
}

fn run(dir: &Path, driver: &str) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log(dir));
    let log = log.map_err(failed("write the daemon's log"))?;
    let path = |name: &str| dir.join(name).into_os_string();
    Command::new("dockerd")
        .arg("--config-file")
        .arg(path("daemon.json"))
        .arg("--data-root")
        .arg(path("data"))
        .arg("--exec-root")
        .arg(path("exec"))
        .arg("--pidfile")
        .arg(path("engine.pid"))
        .args(["--host", &address(dir), "--storage-driver", driver])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed("start the daemon"))
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T> {
    timeout(LONGEST, work).await.map_err(|_| {
        Error::new(ErrorKind::Timeout, format!("the daemon does not {what} in {LONGEST:?}"))
    })
}
