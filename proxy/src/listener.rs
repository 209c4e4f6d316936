//! One listening socket per data thread on one address (contracts.md §6).

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 1024;

/// Binds `count` sockets. The port is first taken without SO_REUSEPORT: otherwise a second process of the same user would silently
/// take half of the traffic.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let probe = socket(address, false)?;
    let taken = local_address(&probe)?;
    drop(probe);

    let first = socket(taken, true)?;
    let bound = local_address(&first)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(socket(bound, true)?);
    }
    Ok((bound, sockets.into_iter().map(TcpListener::from).collect()))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_listens_on_the_same_free_port() {
        let (address, sockets) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 4).expect("a free port");
        assert!(sockets.iter().all(|s| s.local_addr().expect("an address") == address));
    }

    #[test]
    fn a_port_in_use_is_refused_even_by_ourselves() {
        let (address, _held) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a free port");
        assert_eq!(bind(address, 1).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    }
}
