//! A byte stream to the management port of one pod, through the API server (`pods/portforward`), each with a connection of its own.
//! What the node says of a tunnel that broke comes out as the stream's error. It refuses to know what flows through.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::cluster::{Act, Cluster};
use super::{MANAGE_PORT, Refusal, refusal};
use crate::exit::Kind;

/// The way to a pod.
pub(crate) struct Tunnel {
    pods: Api<Pod>,
    namespace: String,
    pod: String,
    server: String,
}

impl Tunnel {
    /// Nothing is connected yet.
    pub(super) fn to(cluster: &Cluster, namespace: &str, pod: &str) -> Self {
        Self {
            pods: Api::namespaced(cluster.client(), namespace),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            server: cluster.server().to_owned(),
        }
    }

    /// The pod, for people.
    pub(crate) fn name(&self) -> String {
        format!("pod {}/{}", self.namespace, self.pod)
    }

    /// A fresh stream. The caller bounds the time.
    ///
    /// # Errors
    /// One line: no right, the pod is gone, its node is out of reach.
    pub(crate) async fn open(&self) -> Result<Forwarded, Refusal> {
        let refused = |error: &kube::Error| {
            let cannot = format!("no tunnel to {}", self.name());
            let right = format!("get and create on pods/portforward in namespace {}", self.namespace);
            let act = Act {
                cannot: &cannot,
                right: &right,
            };
            let mut refused = refusal::refusal(error, act, &self.server);
            // That the pod has gone since it was listed, or that its node is away, is a broken connection and no missing object.
            if matches!(refused.kind, Kind::NotFound | Kind::Other) {
                refused.kind = Kind::Network;
                refused.why += ": try again";
            }
            refused
        };
        let mut forwarder = self.pods.portforward(&self.pod, &[MANAGE_PORT]).await.map_err(|error| refused(&error))?;
        match (forwarder.take_stream(MANAGE_PORT), forwarder.take_error(MANAGE_PORT)) {
            (Some(stream), Some(fault)) => Ok(Forwarded::new(stream, fault)),
            _ => Err(Refusal {
                kind: Kind::Network,
                forbidden: false,
                why: format!("no tunnel to {}: try again", self.name()),
            }),
        }
    }
}

/// A forwarded port.
pub(crate) struct Forwarded {
    stream: DuplexStream,
    /// What the node says if it cannot go on; absent once it has been asked to the end.
    fault: Option<Pin<Box<dyn Future<Output = Option<String>> + Send>>>,
}

impl Forwarded {
    fn new(stream: DuplexStream, fault: impl Future<Output = Option<String>> + Send + 'static) -> Self {
        Self {
            stream,
            fault: Some(Box::pin(fault)),
        }
    }

    /// What the node has said so far.
    fn fault(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let said = match self.fault.as_mut()?.as_mut().poll(cx) {
            Poll::Ready(said) => said,
            Poll::Pending => return None,
        };
        self.fault = None;
        said.map(|why| io::Error::other(TunnelFault(why)))
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() > before {
            return read;
        }
        // What was sent before the fault has been read by now.
        match self.fault(cx) {
            Some(fault) => Poll::Ready(Err(fault)),
            None => read,
        }
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        match written {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fault(cx).unwrap_or(error))),
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The node's words for a tunnel that it could not keep up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TunnelFault(String);

/// The node's words, if it was a tunnel that broke.
pub(crate) fn broken_by<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(fault) = inner.and_then(|inner| inner.downcast_ref::<TunnelFault>()) {
            return Some(&fault.0);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_the_node_says_comes_after_what_the_pod_said() {
        let (near, mut far) = duplex(64);
        let mut forwarded = Forwarded::new(near, ready(Some("connection refused".to_owned())));
        far.write_all(b"head").await.unwrap();
        let mut head = [0; 4];
        forwarded.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"head");
        let error = forwarded.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(broken_by(&error), Some("connection refused"));
        drop(far);
        assert_eq!(forwarded.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_stream_that_ends_without_a_word_just_ends() {
        for fault in [true, false] {
            let (near, far) = duplex(64);
            let mut forwarded = if fault {
                Forwarded::new(near, ready(None))
            } else {
                Forwarded::new(near, pending())
            };
            drop(far);
            assert_eq!(forwarded.read(&mut [0; 8]).await.unwrap(), 0);
            let error = forwarded.write_all(b"x").await.unwrap_err();
            assert_eq!(broken_by(&error), None);
        }
    }

    #[tokio::test]
    async fn a_write_into_a_broken_tunnel_says_what_the_node_said() {
        let (near, far) = duplex(64);
        let mut forwarded = Forwarded::new(near, ready(Some("no such container".to_owned())));
        drop(far);
        let error = forwarded.write_all(b"x").await.unwrap_err();
        assert_eq!(broken_by(&error), Some("no such container"));
    }
}
