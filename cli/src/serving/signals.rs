//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::console;

/// Resolves when the process has been asked to end. Clones resolve together.
#[derive(Clone, Debug)]
pub(crate) struct Asked(watch::Receiver<bool>);

/// Listens from now on; must be called on a runtime.
pub(crate) fn listen() -> io::Result<Asked> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
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
