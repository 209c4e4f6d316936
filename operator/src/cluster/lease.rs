//! The Lease by which one of several operators leads: read, taken, renewed and given up. Every write of it names the resourceVersion that it
//! was decided on. It refuses to know what a leader does.

mod election;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use super::gate::Gate;
use super::http::Readiness;
use super::options::{LeaseTiming, Options};
use election::{Election, Step};

/// Why the Lease is not held.
#[derive(Debug, thiserror::Error)]
enum Setback {
    /// Somebody else wrote it in between; a look at it says whom it belongs to.
    #[error("somebody else wrote the Lease")]
    Overtaken,
    /// The API server refused or is away.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// The API server did not answer in time.
    #[error("the API server does not answer within {0:?}")]
    Timeout(Duration),
}

/// This process's part in the election of a leader.
pub(crate) struct Elector {
    api: Api<Lease>,
    name: String,
    timing: LeaseTiming,
    call_timeout: Duration,
    election: Election,
    gate: Gate,
    /// The last complaint, so that an outage is one line and not one per attempt.
    complaint: Option<String>,
    /// Who is told when the API server answers.
    readiness: Readiness,
}

impl Elector {
    /// A candidate. What it may write is told to `gate`.
    pub(crate) fn new(client: Client, options: &Options, identity: String, gate: Gate, readiness: Readiness) -> Self {
        let timing = options.lease_timing;
        Self {
            api: Api::namespaced(client, &options.lease_namespace),
            name: options.lease_name.clone(),
            timing,
            call_timeout: (timing.renew_deadline / 2).min(Duration::from_secs(5)),
            election: Election::new(identity, timing),
            gate,
            complaint: None,
            readiness,
        }
    }

    /// Waits until the Lease is this process's; then the gate is open. Cancelling it leaves nothing half done that [`Self::release`] does not end.
    pub(crate) async fn acquire(&mut self) {
        loop {
            let sent = Instant::now();
            match self.attempt().await {
                Ok(true) => {
                    self.gate.open_until(sent + self.timing.renew_deadline);
                    return;
                }
                Ok(false) => self.calm(),
                Err(Setback::Overtaken) => {}
                Err(setback) => self.complain(&setback),
            }
            tokio::time::sleep(self.timing.retry_period / 2).await;
        }
    }

    /// Renews the Lease until it is lost: taken by somebody else, or not renewed within the deadline. Then the gate is closed.
    pub(crate) async fn keep(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.timing.retry_period).await;
            let sent = Instant::now();
            match self.renew().await {
                Ok(()) => {
                    renewed = sent;
                    self.gate.open_until(sent + self.timing.renew_deadline);
                    self.calm();
                    continue;
                }
                Err(Setback::Overtaken) => match self.look().await {
                    // Touched by somebody who does not want it: the next renewal names its new version.
                    Ok(()) if self.election.is_held() => {}
                    Ok(()) if self.election.lease().is_some() => {
                        tracing::warn!("somebody else took the Lease: this process is a candidate again");
                        break;
                    }
                    Ok(()) => {}
                    Err(setback) => self.complain(&setback),
                },
                Err(setback) => self.complain(&setback),
            }
            if renewed.elapsed() >= self.timing.renew_deadline {
                tracing::warn!(
                    "the Lease could not be renewed within {:?}: this process is a candidate again",
                    self.timing.renew_deadline
                );
                break;
            }
        }
        self.gate.close();
    }

    /// Closes the gate and gives the Lease up, if it is held, so that others need not wait for its end.
    pub(crate) async fn release(&mut self) {
        self.gate.close();
        // An acquisition that was cut short may have come to pass.
        if !self.election.is_held() && self.look().await.is_err() {
            return;
        }
        for _ in 0..3 {
            let Some(spec) = self.election.released(Timestamp::now()) else { return };
            match self.replace(spec).await {
                Ok(()) => return,
                Err(Setback::Overtaken) => {
                    if self.look().await.is_err() {
                        return;
                    }
                }
                Err(setback) => {
                    tracing::warn!("the Lease could not be given up ({setback}): others wait for its end");
                    return;
                }
            }
        }
    }

    /// One look and, if it is free, one attempt to take it; whether it is held now.
    async fn attempt(&mut self) -> Result<bool, Setback> {
        self.look().await?;
        match self.election.step(Instant::now(), Timestamp::now()) {
            Step::Wait(_) => Ok(false),
            Step::Create(spec) => self.create(spec).await.map(|()| true),
            Step::Take(spec) | Step::Renew(spec) => self.replace(spec).await.map(|()| true),
        }
    }

    async fn renew(&mut self) -> Result<(), Setback> {
        match self.election.step(Instant::now(), Timestamp::now()) {
            Step::Renew(spec) => self.replace(spec).await,
            // Deleted by somebody while it was held: whoever creates it first leads.
            Step::Create(spec) => self.create(spec).await,
            Step::Take(_) | Step::Wait(_) => Err(Setback::Overtaken),
        }
    }

    async fn look(&mut self) -> Result<(), Setback> {
        let lease = self.bounded(self.api.get_opt(&self.name)).await?;
        self.note(lease);
        Ok(())
    }

    async fn create(&mut self, spec: LeaseSpec) -> Result<(), Setback> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let made = self.bounded(self.api.create(&PostParams::default(), &lease)).await?;
        self.note(Some(made));
        Ok(())
    }

    async fn replace(&mut self, spec: LeaseSpec) -> Result<(), Setback> {
        let mut lease = self.election.lease().cloned().unwrap_or_default();
        lease.metadata.managed_fields = None;
        lease.spec = Some(spec);
        match self.bounded(self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(stands) => {
                self.note(Some(stands));
                Ok(())
            }
            // Deleted in between. (Where a creation meets 404 it is the namespace that is missing.)
            Err(Setback::Api(kube::Error::Api(status))) if status.code == 404 => Err(Setback::Overtaken),
            Err(setback) => Err(setback),
        }
    }

    fn note(&mut self, lease: Option<Lease>) {
        let now = Instant::now();
        self.readiness.answered(now);
        self.election.saw(lease, now);
    }

    async fn bounded<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Setback> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Setback::Overtaken),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Setback::Timeout(self.call_timeout)),
        }
    }

    fn complain(&mut self, setback: &Setback) {
        let text = setback.to_string();
        if self.complaint.as_ref() != Some(&text) {
            tracing::warn!("the Lease {}: {text}; trying again", self.name);
            self.complaint = Some(text);
        }
    }

    fn calm(&mut self) {
        if self.complaint.take().is_some() {
            tracing::info!("the Lease {} can be read and written again", self.name);
        }
    }
}
