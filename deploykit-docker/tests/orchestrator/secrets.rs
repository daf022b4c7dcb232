//! A secret's value arrives in the task and nowhere else.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use deploykit_core::{ErrorKind, Orchestrator, Place};
use tracing_subscriber::fmt::MakeWriter;

use crate::world::{get, http, on_docker};

const VALUE: &str = "hunter2-of-the-test";

/// Everything that anything in this process logs, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let all = tracing_subscriber::filter::LevelFilter::TRACE;
        // Takes the `log` facade in too, which bollard and hyper write to.
        tracing_subscriber::fmt().with_max_level(all).with_writer(log.clone()).init();
        log
    })
}

#[tokio::test]
async fn a_secret_reaches_the_task_and_never_a_label_a_log_or_a_debug_print() {
    let log = log();
    on_docker("secret", async move |world| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, format!("{VALUE}\n")).unwrap();
        let reference = format!("file:{}", file.display());
        let spec = http().with_secret("PASSWORD", reference.as_str());
        let address = world.serve("good", spec).await;
        assert_eq!(get(&address, "/env?name=PASSWORD").await, VALUE);

        let labels = world.docker.engine().clone();
        let shown = format!("{:?} {labels:?}", world.docker);
        assert!(!shown.contains(VALUE), "{shown}");
        let state = world.docker.observe(&world.service).await.unwrap();
        assert!(!format!("{state:?}").contains(VALUE));
        let logged = log.0.lock().unwrap().clone();
        let logged = String::from_utf8_lossy(&logged);
        assert!(logged.contains(&reference), "the log must be there to be searched");
        assert!(!logged.contains(VALUE));

        // The test's own look at the container goes through bollard and would be logged.
        let list = bollard::query_parameters::ListContainersOptionsBuilder::new();
        let filters = [("name", vec![world.service.as_str()])].into();
        let list = list.filters(&filters).build();
        let found = world.client.list_containers(Some(list)).await.unwrap();
        let labels = found[0].labels.clone().unwrap();
        assert!(labels.values().any(|label| label.contains(&reference)));
        assert!(!labels.values().any(|label| label.contains(VALUE)));
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_its_file_without_the_last_line_end() {
    on_docker("lines", async |world| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "one\ntwo\n\r\n").unwrap();
        let spec = http().with_secret("KEY", format!("file:{}", file.display()).as_str());
        let address = world.serve("good", spec).await;
        assert_eq!(get(&address, "/env?name=KEY").await, "one\ntwo\n");
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_one_is_refused_at_once_without_its_value() {
    on_docker("nosecrets", async |world| {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        std::fs::write(path("long"), VALUE.repeat(10_000)).unwrap();
        std::fs::write(path("zero"), format!("{VALUE}\0")).unwrap();
        std::fs::write(path("bytes"), [VALUE.as_bytes(), b"\xff"].concat()).unwrap();
        let in_dir = ["pipe", "long", "zero", "bytes"].map(|name| path(name).display().to_string());
        let files = in_dir.into_iter().chain(["/dev/zero".into(), "/".into()]);
        for file in files {
            let spec = http().with_secret("KEY", format!("file:{file}").as_str());
            let revision = world.register("good", spec).await;
            let wanted = world.wanted(Place::A, &revision, 1);
            let error = world.docker.launch(&wanted).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.message().contains(&file), "{error}");
            assert!(!error.report().contains(VALUE), "{error}");
        }
    })
    .await;
}
