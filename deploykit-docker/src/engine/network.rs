//! Networks whose address ranges are known, so that a task can keep its address when the Engine restarts it.
//!
//! The Engine gives a container a new address at each start, unless the container asks for a certain one, which it may
//! only do where the network's subnet was set by its creator. So a network of ours is made in two stages: the Engine
//! chooses a free subnet, then the network is made again with that subnet written down. Whoever finds it between the
//! stages goes on from there.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest,
};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use deploykit_core::{Error, ErrorKind, Result};

use super::{Engine, Failure, absent_is_none};

/// On a network that was made here: whether its subnet is written down.
const LABEL: &str = "deploykit.network";
const DRAFT: &str = "draft";
const DONE: &str = "done";

/// Stages and races; each turn of the loop makes one step.
const TURNS: usize = 8;

/// A network and the addresses that may be given out on it by name.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    id: String,
    pub(crate) name: String,
    /// None where the network has no IPv4 subnet.
    subnet: Option<Subnet>,
    /// None for one that was not made here.
    stage: Option<&'static str>,
}

impl Network {
    /// Addresses to be given out by name, the first one chosen by `seed`: the subnet's upper half, which the Engine
    /// leaves alone in networks made here.
    pub(crate) fn addresses(&self, seed: u64) -> impl Iterator<Item = Ipv4Addr> {
        let (first, count) = self.subnet.map_or((0, 0), |subnet| subnet.upper_half());
        let start = seed.checked_rem(u64::from(count)).unwrap_or(0);
        (0..u64::from(count)).filter_map(move |n| {
            let offset = u32::try_from((start + n) % u64::from(count)).ok()?;
            Some(Ipv4Addr::from_bits(first + offset))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    base: u32,
    /// Bits of the prefix, 8 to 29: a smaller subnet has no half worth splitting off.
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|prefix| (8..=29).contains(prefix))?;
        Some(Self { base: base.parse::<Ipv4Addr>().ok()?.to_bits(), prefix })
    }

    fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// First address and count, without the broadcast address.
    fn upper_half(self) -> (u32, u32) {
        (self.base + self.size() / 2, self.size() / 2 - 1)
    }

    fn lower_half(self) -> String {
        format!("{}/{}", Ipv4Addr::from_bits(self.base), self.prefix + 1)
    }
}

impl Engine {
    /// The network of this name; it is made if there is none.
    ///
    /// One that somebody else made is used as it is.
    pub(crate) async fn ensure_network(&self, name: &str) -> Result<Network> {
        let doing = format!("make network {name:?}");
        let failed = |failure| self.failed(&doing, failure);
        let _one_at_a_time = self.networks.lock().await;
        for _ in 0..TURNS {
            let found = self.networks(name).await.map_err(failed)?;
            let made = match found.as_slice() {
                [] => self.create_network(name, None).await,
                [Network { id, subnet: Some(subnet), stage: Some(DRAFT), .. }] => {
                    let removed = self.remove_network(id).await;
                    removed.map_err(failed)?;
                    self.create_network(name, Some(*subnet)).await
                }
                [network] => return Ok(network.clone()),
                several => self.thin_out(several).await,
            };
            match made {
                // Somebody else was quicker: see what there is now.
                Err(failure) if failure.is(409) || failure.says("overlap") => {}
                made => made.map_err(failed)?,
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("{doing}: others keep changing it"))
            .with_hint(
                "make the network yourself: docker network create --subnet 10.99.0.0/16 NAME",
            )
            .with_temporary(true))
    }

    /// All networks of this name, the one to keep first: the Engine does not keep two processes from making the same
    /// one at once.
    async fn networks(&self, name: &str) -> Result<Vec<Network>, Failure> {
        let filters = HashMap::from([("name", vec![name])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let found = self.client.list_networks(Some(options)).await?;
        // The filter matches parts of names.
        let found = found.into_iter().filter(|found| found.name.as_deref() == Some(name));
        let mut networks: Vec<_> = found
            .map(|found| {
                let configs = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
                let mut subnets = configs.iter().filter_map(|config| config.subnet.as_deref());
                let stage = found.labels.unwrap_or_default().remove(LABEL);
                Network {
                    id: found.id.unwrap_or_default(),
                    name: name.to_owned(),
                    subnet: subnets.find_map(Subnet::parse),
                    stage: stage.map(|stage| if stage == DRAFT { DRAFT } else { DONE }),
                }
            })
            .collect();
        networks
            .sort_by(|a, b| (a.stage == Some(DRAFT), &a.id).cmp(&(b.stage == Some(DRAFT), &b.id)));
        Ok(networks)
    }

    /// Removes all but one of several networks of ours that have the same name; those in use stay.
    async fn thin_out(&self, several: &[Network]) -> Result<(), Failure> {
        let mut left = several.len();
        for network in several.iter().rev().filter(|network| network.stage.is_some()) {
            if left > 1 && self.remove_network(&network.id).await? {
                left -= 1;
            }
        }
        Ok(())
    }

    /// Whether the network is gone now; false if it is in use.
    async fn remove_network(&self, id: &str) -> Result<bool, Failure> {
        match self.client.remove_network(id).await.map_err(Failure::from) {
            Err(failure) if failure.is(403) || failure.is(409) => Ok(false),
            removed => absent_is_none(removed).map(|_| true),
        }
    }

    async fn create_network(&self, name: &str, subnet: Option<Subnet>) -> Result<(), Failure> {
        let stage = if subnet.is_some() { DONE } else { DRAFT };
        let ipam = subnet.map(|subnet| Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(format!("{}/{}", Ipv4Addr::from_bits(subnet.base), subnet.prefix)),
                ip_range: Some(subnet.lower_half()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        });
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            labels: Some(HashMap::from([(LABEL.to_owned(), stage.to_owned())])),
            ipam,
            ..NetworkCreateRequest::default()
        };
        self.client.create_network(request).await?;
        Ok(())
    }

    /// Removes a network that was made here once no container, running or not, belongs to it any more.
    pub(crate) async fn remove_unused_network(&self, name: &str) -> Result<(), Failure> {
        let _one_at_a_time = self.networks.lock().await;
        let mut networks = self.networks(name).await?;
        networks.retain(|network| network.stage.is_some());
        if networks.is_empty() || !self.members(name).await?.is_empty() {
            return Ok(());
        }
        for network in networks {
            self.remove_network(&network.id).await?;
        }
        Ok(())
    }

    /// The addresses on a network that belong to containers, running or not.
    pub(crate) async fn taken(&self, network: &str) -> Result<HashSet<Ipv4Addr>, Failure> {
        let members = self.members(network).await?;
        let given = |member: EndpointSettings| {
            let wanted = member.ipam_config.and_then(|ipam| ipam.ipv4_address);
            [wanted, member.ip_address, member.gateway]
        };
        let texts = members.into_iter().flat_map(given).flatten();
        Ok(texts.filter_map(|text| text.parse().ok()).collect())
    }

    async fn members(&self, network: &str) -> Result<Vec<EndpointSettings>, Failure> {
        let filters = HashMap::from([("network", vec![network])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.client.list_containers(Some(options)).await?;
        let attachments = containers
            .into_iter()
            .filter_map(|container| container.network_settings?.networks?.remove(network));
        Ok(attachments.collect())
    }

    /// Connects a container to a further network, which must be there.
    pub(crate) async fn join(&self, network: &str, container: &str) -> Result<(), Failure> {
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            ..NetworkConnectRequest::default()
        };
        Ok(self.client.connect_network(network, request).await?)
    }
}

/// How a container that is to be created belongs to its network.
pub(crate) fn attachment(address: Option<Ipv4Addr>) -> EndpointSettings {
    EndpointSettings {
        ipam_config: address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_once_each_from_the_upper_half_without_the_broadcast_address() {
        let subnet = Subnet::parse("10.9.8.0/28");
        assert_eq!(subnet.unwrap().lower_half(), "10.9.8.0/29");
        let network = Network { id: "1".into(), name: "n".into(), subnet, stage: None };
        let mut all: Vec<_> = network.addresses(12_345).collect();
        all.sort();
        let wanted: Vec<_> = (8..15).map(|n| Ipv4Addr::new(10, 9, 8, n)).collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_network_without_a_usable_subnet_gives_out_nothing() {
        for text in ["fd00::/64", "10.0.0.0/30", "nonsense"] {
            let network = Network {
                id: "1".into(),
                name: "n".into(),
                subnet: Subnet::parse(text),
                stage: None,
            };
            assert_eq!(network.addresses(7).count(), 0, "{text}");
        }
    }
}
