//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::console;

/// Resolves when the process has been asked to end. Clones resolve together.
#[derive(Clone, Debug)]
pub(crate) struct Asked(watch::Receiver<bool>);

/// SIGTERM and SIGINT.
type Both = (Signal, Signal);

/// Who listens since the process began, until [`listen`] takes over.
static HEARD: Mutex<Option<Both>> = Mutex::new(None);

/// Hears signals from now on, for [`listen`]; needs no runtime and starts no thread. The kernel keeps from the first process of a container what it
/// does not listen for: a pod that is deleted while it starts would never learn of it and run on to the end of its grace period.
pub(crate) fn hear() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    *HEARD.lock().unwrap_or_else(PoisonError::into_inner) = Some(both()?);
    Ok(())
}

fn both() -> io::Result<Both> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

/// Listens from now on, and for what was heard before; must be called on a runtime.
pub(crate) fn listen() -> io::Result<Asked> {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Always: it is what makes this runtime attend to signals.
    let fresh = both()?;
    let (mut terminate, mut interrupt) = heard.unwrap_or(fresh);
    let (ask, asked) = watch::channel(false);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = next().await;
        tracing::info!(signal = first, "draining; a second signal ends the process at once");
        ask.send_replace(true);
        let second = next().await;
        console::complain(&format!(
            "{second}: ended at once; what was leased and not reported is forfeited at the next start\n"
        ));
        end_at_once();
    });
    Ok(Asked(asked))
}

impl Asked {
    /// Waits for the first signal.
    pub(crate) async fn wait(mut self) {
        // The sender lives as long as the listening task, which never ends before the process.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "somebody has asked twice: nothing is to be waited for any more")]
fn end_at_once() -> ! {
    std::process::exit(1)
}
