//! How a listening address is written for those who are to connect to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `http://IP:PORT`; an address that means every interface is reached by the loopback one.
pub(crate) fn local_url(bound: SocketAddr) -> String {
    let ip = if bound.ip().is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        bound.ip()
    };
    format!("http://{}", SocketAddr::new(ip, bound.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_becomes_loopback_and_others_stay() {
        let url = |text: &str| local_url(text.parse().unwrap());
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:8080"), "http://127.0.0.1:8080");
        assert_eq!(url("[::1]:8080"), "http://[::1]:8080");
        assert_eq!(url("192.168.1.2:1"), "http://192.168.1.2:1");
    }
}
