//! Addresses where no provider answers: one that refuses connections, one that never accepts them. Neither can be taken by another process.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// An address that is held for as long as this lives.
#[derive(Debug)]
pub struct DeadEnd {
    addr: SocketAddr,
    _socket: Socket,
    _queued: Vec<Socket>,
}

impl DeadEnd {
    /// Connections are refused at once: the port is bound, but nobody listens.
    #[must_use]
    pub fn refusing() -> Self {
        let (socket, addr) = bound();
        Self {
            addr,
            _socket: socket,
            _queued: Vec::new(),
        }
    }

    /// Connections are neither accepted nor refused: the listener's queue is full.
    #[must_use]
    pub fn unanswering() -> Self {
        let (socket, addr) = bound();
        socket.listen(0).expect("a listener");
        // The queue of a backlog of 0 holds one connection; a few more fill what the kernel rounds up.
        let fillers = (0..8).map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("a non-blocking socket");
            let _ = filler.connect(&addr.into());
            filler
        });
        let queued = fillers.collect();
        let dead_end = Self {
            addr,
            _socket: socket,
            _queued: queued,
        };
        crate::wait::until("a full accept queue", crate::wait::SOON, || {
            TcpStream::connect_timeout(&addr, Duration::from_millis(50)).is_err()
        });
        dead_end
    }

    /// The address as a base URL.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .expect("a free port on the loopback interface");
    let addr = socket.local_addr().expect("its address").as_socket().expect("an IP address");
    (socket, addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn one_refuses_and_the_other_keeps_waiting() {
        let refusing = DeadEnd::refusing();
        let error = TcpStream::connect_timeout(&refusing.addr(), Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let unanswering = DeadEnd::unanswering();
        let error = TcpStream::connect_timeout(&unanswering.addr(), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
