//! The addresses of a node: a wire between this machine and the node's own network, its pods, and its Services. It refuses to know who uses them.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::random::Random;

/// One of 254 private networks, told apart by one number, so that several nodes may run on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(u8);

impl Network {
    /// One that this machine has no route to yet.
    ///
    /// # Panics
    /// If `ip` (Debian's iproute2) is missing, or every number is taken.
    #[must_use]
    pub(super) fn free() -> Self {
        let routes = Command::new("ip")
            .args(["-4", "route", "show", "table", "all"])
            .output()
            .expect("ip runs: install iproute2");
        let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
        let mut random = Random::fresh();
        let mut candidates = (0..1000).map(|_| Self(u8::try_from(1 + random.below(254)).expect("a number below 255")));
        let free = candidates.find(|network| !routes.contains(&format!("10.213.{}.", network.0)));
        free.expect("a private network that is not in use")
    }

    /// The one with this number, 1 to 254.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// What the wire's end on this machine is called: unique, and short enough for a network device.
    #[must_use]
    pub(super) fn device(self) -> String {
        format!("llmp-node-{}", self.0)
    }

    /// This machine, as node and pods reach it.
    #[must_use]
    pub fn machine(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.0, 1)
    }

    /// The node.
    #[must_use]
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.0, 2)
    }

    /// The subnet of the pods, in CIDR notation.
    #[must_use]
    pub fn pods(self) -> String {
        format!("10.214.{}.0/24", self.0)
    }

    /// The subnet of the Services, in CIDR notation.
    #[must_use]
    pub fn services(self) -> String {
        format!("10.215.{}.0/24", self.0)
    }

    /// The Service `kubernetes`: the first address of the Services.
    #[must_use]
    pub fn api_server(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 215, self.0, 1)
    }

    /// Where pods ask for names: an address of the Services that Kubernetes gives to nobody by itself.
    #[must_use]
    pub fn name_server(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 215, self.0, 10)
    }
}
