//! A run that ends: what jobs are tested with.

use std::process::ExitCode;
use std::time::Duration;

/// `job MILLISECONDS CODE [LINE]...`: writes the lines, takes `EAT_MB` of memory if that is set, waits, and exits with the
/// code. It has no handler for SIGTERM, so process 1 of a container ignores it.
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut number = || arguments.next()?.parse::<u64>().ok();
    let (Some(time), Some(code)) = (number(), number()) else {
        eprintln!("testbed: job MILLISECONDS CODE [LINE]...");
        return ExitCode::from(2);
    };
    for line in arguments {
        println!("{line}");
    }
    let eat = std::env::var("EAT_MB").ok().and_then(|mb| mb.parse().ok()).unwrap_or(0_usize);
    std::hint::black_box(vec![1_u8; eat << 20]);
    tokio::time::sleep(Duration::from_millis(time)).await;
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
