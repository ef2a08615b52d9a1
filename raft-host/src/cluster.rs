//! Who the members are and where they listen: the one string that servers and clients are given.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A client's port is its member's port for other members plus this, unless it is named.
pub const CLIENT_PORT_OFFSET: u16 = 1000;

/// The members of a cluster, as in `1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003`.
///
/// Each member has two ports: the named one for the other members, and one for clients, which is 1000
/// higher. Where that does not suit, name both: `1=127.0.0.1:7001/9001`. So one and the same string
/// serves servers and clients, on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    members: BTreeMap<u64, MemberAddress>,
}

/// Where a member listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddress {
    /// A name or an IP address; one of version 6 stands in brackets.
    pub host: String,
    /// For the other members.
    pub peer_port: u16,
    /// For clients.
    pub client_port: u16,
}

impl MemberAddress {
    /// `HOST:PORT` for the other members.
    pub fn peers(&self) -> String {
        format!("{}:{}", self.host, self.peer_port)
    }

    /// `HOST:PORT` for clients.
    pub fn clients(&self) -> String {
        format!("{}:{}", self.host, self.client_port)
    }
}

impl Cluster {
    /// Each member's number and addresses, in rising order.
    pub fn members(&self) -> impl Iterator<Item = (u64, &MemberAddress)> {
        self.members.iter().map(|(id, address)| (*id, address))
    }

    /// Where each member listens for clients, as `HOST:PORT`: what a client is given.
    pub fn clients(&self) -> Vec<String> {
        self.members.values().map(MemberAddress::clients).collect()
    }

    /// Where a member listens.
    pub fn member(&self, id: u64) -> Option<&MemberAddress> {
        self.members.get(&id)
    }

    /// How many members there are; at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.members.len()
    }
}

/// Why a string names no cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCluster {
    /// A part is not of the right form.
    #[error("`{part}` is no member; write ID=HOST:PORT, as in 1=127.0.0.1:7001")]
    Form {
        /// The part.
        part: String,
    },
    /// An address is not of the right form.
    #[error("`{address}` is no address; write HOST:PORT, as in 127.0.0.1:7001")]
    Address {
        /// What stands there.
        address: String,
    },
    /// A number is 0, or no number.
    #[error("`{id}` is no member's number; count from 1")]
    Id {
        /// What stands there.
        id: String,
    },
    /// A port is none.
    #[error("`{port}` is no port; one is between 1 and 65535")]
    Port {
        /// What stands there.
        port: String,
    },
    /// There is no port for clients 1000 above the one for members.
    #[error(
        "port {peer_port} leaves no room for the clients' port, which is {CLIENT_PORT_OFFSET} \
         higher; name it, as in 1=127.0.0.1:{peer_port}/9001"
    )]
    NoClientPort {
        /// The port for members.
        peer_port: u16,
    },
    /// A number stands there twice.
    #[error("member {id} stands there twice")]
    TwiceId {
        /// The number.
        id: u64,
    },
    /// An address stands there twice.
    #[error("{address} stands there twice; ports for members and for clients must all differ")]
    TwiceAddress {
        /// The address.
        address: String,
    },
}

impl FromStr for Cluster {
    type Err = BadCluster;

    fn from_str(text: &str) -> Result<Self, BadCluster> {
        let mut members = BTreeMap::new();
        let mut addresses = std::collections::BTreeSet::new();
        for part in text.split(',') {
            let (id, address) = member(part.trim())?;
            for address in [address.peers(), address.clients()] {
                if !addresses.insert(address.clone()) {
                    return Err(BadCluster::TwiceAddress { address });
                }
            }
            if members.insert(id, address).is_some() {
                return Err(BadCluster::TwiceId { id });
            }
        }
        Ok(Cluster { members })
    }
}

fn member(part: &str) -> Result<(u64, MemberAddress), BadCluster> {
    let form = || BadCluster::Form { part: part.to_owned() };
    let (id, address) = part.split_once('=').ok_or_else(form)?;
    let number = id.parse().ok().filter(|number| *number != 0);
    let number = number.ok_or_else(|| BadCluster::Id { id: id.to_owned() })?;
    let address = address.parse().map_err(|error| match error {
        BadCluster::Address { .. } => form(),
        error => error,
    })?;
    Ok((number, address))
}

/// As in `127.0.0.1:7001`, or `127.0.0.1:7001/9001` with the clients' port.
impl FromStr for MemberAddress {
    type Err = BadCluster;

    fn from_str(text: &str) -> Result<Self, BadCluster> {
        let form = || BadCluster::Address { address: text.to_owned() };
        let (host, ports) = text.rsplit_once(':').ok_or_else(form)?;
        let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || is_bare_ipv6 {
            return Err(form());
        }
        let (peer_port, client_port) = match ports.split_once('/') {
            Some((peers, clients)) => (port(peers)?, port(clients)?),
            None => {
                let peer_port = port(ports)?;
                let client_port = peer_port.checked_add(CLIENT_PORT_OFFSET);
                (peer_port, client_port.ok_or(BadCluster::NoClientPort { peer_port })?)
            }
        };
        Ok(MemberAddress { host: host.to_owned(), peer_port, client_port })
    }
}

fn port(text: &str) -> Result<u16, BadCluster> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| BadCluster::Port { port: text.to_owned() })
}

/// As it is written, both ports named.
impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (id, member)) in self.members().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let MemberAddress { host, peer_port, client_port } = member;
            write!(f, "{comma}{id}={host}:{peer_port}/{client_port}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_string_names_both_ports_of_every_member() {
        let text = "1=127.0.0.1:7001, 2=[::1]:7002,3=db3.example:7003/9003";
        let cluster: Cluster = text.parse().unwrap();
        assert_eq!(cluster.len(), 3);
        let clients = cluster.clients();
        assert_eq!(clients, ["127.0.0.1:8001", "[::1]:8002", "db3.example:9003"]);
        assert_eq!(cluster.member(3).unwrap().peers(), "db3.example:7003");
        assert_eq!(cluster.to_string().parse(), Ok(cluster));
    }

    #[test]
    fn what_names_no_cluster_is_refused_with_the_reason() {
        let text = |text: &str| text.parse::<Cluster>().unwrap_err();
        assert!(matches!(text(""), BadCluster::Form { .. }));
        assert!(matches!(text("1"), BadCluster::Form { .. }));
        assert!(matches!(text("1=localhost"), BadCluster::Form { .. }));
        assert!(matches!(text("1=:80"), BadCluster::Form { .. }));
        assert!(matches!(text("1=::1:80"), BadCluster::Form { .. }));
        assert!(matches!(text("0=h:80"), BadCluster::Id { .. }));
        assert!(matches!(text("one=h:80"), BadCluster::Id { .. }));
        assert!(matches!(text("1=h:0"), BadCluster::Port { .. }));
        assert!(matches!(text("1=h:65536"), BadCluster::Port { .. }));
        assert!(matches!(text("1=h:1/x"), BadCluster::Port { .. }));
        assert!(matches!(text("1=h:65000"), BadCluster::NoClientPort { peer_port: 65000 }));
        assert!(matches!(text("1=h:1,1=h:2"), BadCluster::TwiceId { id: 1 }));
        assert!(matches!(text("1=h:7001,2=h:8001"), BadCluster::TwiceAddress { .. }));
    }
}
