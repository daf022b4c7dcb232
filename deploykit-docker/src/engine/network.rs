//! Networks whose address ranges are known, so that a task can keep its address when the Engine restarts it.
//!
//! The Engine gives a container a new address at each start, unless the container asks for a certain one, which it may
//! only do where the network's creator set its subnet. So the subnet of a network is chosen here. It follows from the
//! network's name: of two deployers that make the same network at once, both choose the same subnet, and the Engine
//! gives it to one of them only. (It would let both make a network of one name.)

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest,
};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptions};
use deploykit_core::{Error, ErrorKind, Result};

use super::{Engine, Failure, absent_is_none};

/// On a network that was made here.
const LABEL: &str = "deploykit.network";

/// Where subnets are chosen: the private range that the Engine's own default subnets come from (RFC 1918), in 256 parts.
const RANGE: u32 = Ipv4Addr::new(172, 16, 0, 0).to_bits();
const PREFIX: u32 = 20;
const PARTS: u32 = 256;

/// How often a network is looked for before it is given up, and the pause between.
const LOOKS: u32 = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// After so many looks in vain, whoever has the subnet is not making our network.
const PATIENCE: u32 = 10;

/// A network and the addresses that may be given out on it by name.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    id: String,
    pub(crate) name: String,
    subnets: Vec<Subnet>,
    /// Whether it was made here.
    ours: bool,
}

impl Network {
    /// Addresses to be given out to `owner`, always in the same order: the subnet's upper half, which the Engine leaves
    /// alone in networks made here.
    pub(crate) fn addresses(&self, owner: &str) -> impl Iterator<Item = Ipv4Addr> {
        let (first, count) = self.subnets.first().map_or((0, 0), |subnet| subnet.upper_half());
        let start = seed(owner).checked_rem(count).unwrap_or(0);
        (0..count).map(move |n| Ipv4Addr::from_bits(first + (start + n) % count))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    base: u32,
    /// Bits of the prefix, 1 to 32.
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix))?;
        Some(Self { base: base.parse::<Ipv4Addr>().ok()?.to_bits(), prefix })
    }

    /// Those that a network of this name may have, the preferred one first.
    fn candidates(name: &str) -> impl Iterator<Item = Self> {
        let start = seed(name) % PARTS;
        (0..PARTS).map(move |n| {
            let part = (start + n) % PARTS;
            Self { base: RANGE + (part << (32 - PREFIX)), prefix: PREFIX }
        })
    }

    /// The destinations of this machine's routes, from the text of `/proc/net/route` (proc_net(5)), without the default
    /// route and without those of the Engine's networks: the route of one that is being made shows before the network.
    fn routes(text: &str) -> impl Iterator<Item = Self> {
        // Addresses are in network order, printed as if they were in the machine's.
        let number = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::to_be);
        text.lines().filter_map(move |line| {
            let mut columns = line.split_whitespace();
            let interface = columns.next()?;
            let base = number(columns.next()?)?;
            let prefix = number(columns.nth(5)?)?.leading_ones();
            if is_engines(interface) {
                return None;
            }
            (prefix > 0).then_some(Self { base, prefix })
        })
    }

    fn overlaps(self, other: Self) -> bool {
        let shift = 32 - self.prefix.min(other.prefix);
        self.base >> shift == other.base >> shift
    }

    /// First address and count, without the broadcast address.
    fn upper_half(self) -> (u32, u32) {
        let half = 1 << (32 - self.prefix) >> 1;
        (self.base + half, u32::saturating_sub(half, 1))
    }

    fn lower_half(self) -> String {
        format!("{}/{}", Ipv4Addr::from_bits(self.base), self.prefix + 1)
    }
}

/// The Engine calls a network's bridge `br-` and the first twelve digits of the network's id.
fn is_engines(interface: &str) -> bool {
    let id = interface.strip_prefix("br-").unwrap_or_default();
    id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// A number that is the same for a name at any time, in any process (FNV-1a).
fn seed(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Engine {
    /// The network of this name; it is made if there is none.
    ///
    /// One that somebody else made is used as it is.
    pub(crate) async fn ensure_network(&self, name: &str) -> Result<Network> {
        let doing = format!("make network {name:?}");
        let failed = |failure| self.failed(&doing, failure);
        let _one_at_a_time = self.networks.lock().await;
        for look in 0..LOOKS {
            let all = self.networks().await;
            let mut all = all.map_err(|failure| self.failed_now(&doing, failure))?;
            if let Some(found) = all.iter().position(|network| network.name == name) {
                return Ok(all.swap_remove(found));
            }
            let taken: Vec<_> = all.into_iter().flat_map(|network| network.subnets).collect();
            // Where there is no such file there is nothing to be learnt from it.
            let routes = tokio::fs::read_to_string("/proc/net/route").await.unwrap_or_default();
            let mut free = Subnet::candidates(name).filter(|subnet| {
                !taken.iter().any(|taken| subnet.overlaps(*taken))
                    && !Subnet::routes(&routes).any(|route| subnet.overlaps(route))
            });
            let skip = usize::try_from(look / PATIENCE).unwrap_or_default();
            let Some(subnet) = free.nth(skip) else { break };
            match self.create_network(name, subnet).await {
                // Somebody else is making it, or another one on this subnet.
                Err(failure) if failure.is(409) || failure.says("overlap") => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                made => made.map_err(failed)?,
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("{doing}: no subnet in 172.16.0.0/12 is free"))
            .with_hint(format!(
                "make it yourself: docker network create --subnet A.B.C.D/N {name}"
            )))
    }

    async fn networks(&self) -> Result<Vec<Network>, Failure> {
        let found = self.client.list_networks(None::<ListNetworksOptions>).await?;
        let networks = found.into_iter().map(|found| {
            let configs = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            let subnets =
                configs.iter().filter_map(|config| Subnet::parse(config.subnet.as_deref()?));
            Network {
                id: found.id.unwrap_or_default(),
                name: found.name.unwrap_or_default(),
                subnets: subnets.collect(),
                ours: found.labels.is_some_and(|labels| labels.contains_key(LABEL)),
            }
        });
        Ok(networks.collect())
    }

    async fn create_network(&self, name: &str, subnet: Subnet) -> Result<(), Failure> {
        let config = IpamConfig {
            subnet: Some(format!("{}/{}", Ipv4Addr::from_bits(subnet.base), subnet.prefix)),
            ip_range: Some(subnet.lower_half()),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            labels: Some(HashMap::from([(LABEL.to_owned(), String::new())])),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            ..NetworkCreateRequest::default()
        };
        self.client.create_network(request).await?;
        Ok(())
    }

    /// Removes a network that was made here once no container, running or not, belongs to it any more.
    pub(crate) async fn remove_unused_network(&self, name: &str) -> Result<(), Failure> {
        let _one_at_a_time = self.networks.lock().await;
        let all = self.networks().await?;
        let Some(network) = all.iter().find(|network| network.ours && network.name == name) else {
            return Ok(());
        };
        if !self.members(name).await?.is_empty() {
            return Ok(());
        }
        match self.client.remove_network(&network.id).await.map_err(Failure::from) {
            // Somebody joined it meanwhile.
            Err(failure) if failure.is(403) || failure.is(409) => Ok(()),
            removed => absent_is_none(removed).map(|_| ()),
        }
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

    fn network(subnet: &str) -> Network {
        let subnets = Subnet::parse(subnet).into_iter().collect();
        Network { id: "1".into(), name: "n".into(), subnets, ours: true }
    }

    #[test]
    fn addresses_come_once_each_from_the_upper_half_without_the_broadcast_address() {
        assert_eq!(Subnet::parse("10.9.8.0/28").unwrap().lower_half(), "10.9.8.0/29");
        let mut all: Vec<_> = network("10.9.8.0/28").addresses("web-A-0").collect();
        all.sort();
        let wanted: Vec<_> = (8..15).map(|n| Ipv4Addr::new(10, 9, 8, n)).collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_network_without_a_usable_subnet_gives_out_nothing() {
        for text in ["fd00::/64", "10.0.0.0/31", "10.0.0.0/32", "nonsense"] {
            assert_eq!(network(text).addresses("web-A-0").count(), 0, "{text}");
        }
    }

    #[test]
    fn all_candidates_are_private_and_no_two_overlap() {
        let all: Vec<_> = Subnet::candidates("deploykit").collect();
        let range = Subnet::parse("172.16.0.0/12").unwrap();
        assert!(all.iter().all(|one| one.overlaps(range)));
        let overlaps = |one: &Subnet| all.iter().filter(|other| one.overlaps(**other)).count();
        assert!(all.iter().all(|one| overlaps(one) == 1));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_are_read_but_for_the_default_one_and_those_of_the_engine() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            br-001949b9d135\t00001DAC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            tun0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes: Vec<_> = Subnet::routes(text).collect();
        assert_eq!(routes, [Subnet::parse("172.18.0.0/16").unwrap()]);
    }
}
