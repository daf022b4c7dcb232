//! What the Engine says of a container and of a network, cut down to what is used here.
//!
//! The full answer about a container holds its environment, and with it secrets; these types never take it up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use deploykit_core::Timestamp;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    pub(crate) id: String,
    name: String,
    #[serde(default)]
    pub(crate) restart_count: u32,
    pub(crate) state: State,
    pub(crate) config: Config,
    pub(crate) network_settings: NetworkSettings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub(crate) status: String,
    #[serde(rename = "OOMKilled", default)]
    pub(crate) oom_killed: bool,
    #[serde(default)]
    pub(crate) exit_code: i64,
    /// When its process was started last; a restart changes it.
    #[serde(default)]
    pub(crate) started_at: String,
    #[serde(default)]
    finished_at: String,
    /// Why it could not be started.
    #[serde(default)]
    pub(crate) error: String,
    pub(crate) health: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub(crate) status: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) log: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    pub(crate) exit_code: i64,
    #[serde(default)]
    pub(crate) output: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) labels: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkSettings {
    #[serde(default, deserialize_with = "null_is_empty")]
    networks: HashMap<String, Attachment>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attachment {
    #[serde(rename = "IPAddress", default)]
    address: String,
    #[serde(rename = "IPAMConfig")]
    wanted: Option<Wanted>,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(rename = "IPv4Address")]
    address: Option<String>,
}

fn null_is_empty<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A time in the Engine's way to write it; none for what never happened.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    let time: Timestamp = serde_json::from_value(text.into()).ok()?;
    (time > Timestamp::from_millis(0)).then_some(time)
}

impl Inspected {
    /// Whether its process has ever run.
    pub(crate) fn was_started(&self) -> bool {
        time(&self.state.started_at).is_some()
    }

    /// How long its process ran, if it has ended.
    pub(crate) fn ran(&self) -> Option<Duration> {
        let ended = matches!(self.state.status.as_str(), "exited" | "dead");
        let finished = time(&self.state.finished_at).filter(|_| ended)?;
        Some(finished.since(time(&self.state.started_at)?))
    }

    pub(crate) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.config.labels.get(name).map(String::as_str)
    }

    /// Its address on this network: the one that it has, else the one that it was given for good.
    pub(crate) fn address_on(&self, network: &str) -> Option<IpAddr> {
        let attachment = self.network_settings.networks.get(network)?;
        let wanted = || attachment.wanted.as_ref()?.address.as_deref()?.parse().ok();
        attachment.address.parse().ok().or_else(wanted)
    }
}

impl Health {
    /// What the last check said.
    pub(crate) fn last_output(&self) -> String {
        match self.log.last() {
            Some(check) if check.output.trim().is_empty() => {
                format!("its health check failed with code {}", check.exit_code)
            }
            Some(check) => format!(
                "its health check failed with code {}: {}",
                check.exit_code,
                check.output.trim()
            ),
            None => "its health check fails".into(),
        }
    }
}
