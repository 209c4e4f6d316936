//! One pass of standalone: scan, note what is declared, and drive every object until nothing is left to do for it.
//! It refuses to know what the effects mean; the pure core decides them. When a pass is due stands in `run.rs`.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::Kind;
use crds::conditions::{Condition, ConditionStatus, ConditionType};
use store::{Claim, FeedVersion, Fleet, ResourceUid, StoreError};
use tokio::sync::watch;

use super::absence::Absences;
use super::cross;
use super::env_file::EnvDir;
use super::fault::Fault;
use super::note::Noting;
use super::object_key::ObjectKey;
use super::observe::{Claims, Observer, object};
use super::passed_over::PassedOver;
use super::perform::{Outcome, perform};
use super::scan::{Scan, Scanner};
use super::sources::Sources;
use super::world::{Known, World};
use crate::decide::decide;
use crate::effect::Effect;
use crate::memory::Memory;
use crate::object::Standing;

/// More effects than any object needs in one pass; reached only by a fault of ours.
const MOST_EFFECTS: usize = 64;

/// Called after each performed effect; `Break` ends the pass on the spot, as a crash would.
type Hook = Box<dyn FnMut(&Effect) -> ControlFlow<()> + Send + Sync>;

/// Why the executor cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder of the `.env` files cannot be made or read.
    #[error("{} cannot be used for the issued keys: {error}", path.display())]
    Secrets {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What one pass came to.
#[derive(Clone, Debug, Default)]
pub struct PassReport {
    /// How many objects are served, be it by their last good spec.
    pub objects: usize,
    /// Everything that is wrong in the manifests.
    pub faults: Vec<Fault>,
    /// The `.env` files that hold a working key.
    pub env_files: Vec<PathBuf>,
    /// What keeps a project from being served though its manifest is valid: one line for each such project.
    pub complaints: Vec<String>,
    /// Fields that say something only in a cluster: those that this process had not told before.
    pub passed_over: Vec<String>,
    /// How many effects were performed; none if all was as it should be.
    pub effects: usize,
    /// How long it is until time alone changes something.
    pub recheck_in: Option<Duration>,
    /// Whether a hook ended the pass.
    pub stopped: bool,
}

/// The `files` executor.
pub struct FilesReconciler {
    sources: Sources,
    /// Away only while a scan is running.
    scanner: Option<Scanner>,
    fleet: Fleet,
    claim: Claim,
    env: EnvDir,
    base_url: String,
    absences: Absences,
    memories: HashMap<ResourceUid, Memory>,
    told: Vec<Fault>,
    passed_over: PassedOver,
    hook: Option<Hook>,
}

impl FilesReconciler {
    /// An executor for a claimed database. `base_url` is what applications use, ending in `/v1`. Blocking, and short.
    ///
    /// # Errors
    /// [`FilesError`] if DIR/secrets cannot be used.
    pub fn new(sources: Sources, data_dir: &Path, fleet: Fleet, claim: Claim, base_url: String) -> Result<Self, FilesError> {
        let env = EnvDir::open(data_dir).map_err(|error| FilesError::Secrets {
            path: data_dir.join("secrets"),
            error,
        })?;
        let fleet_name = format!("{}/{}", claim.namespace, claim.name);
        tracing::info!(
            proxy_config = fleet_name,
            "spec.database is passed over: the SQLite file of the data directory is used"
        );
        Ok(Self {
            scanner: Some(Scanner::new(sources.clone())),
            sources,
            fleet,
            claim,
            env,
            base_url,
            absences: Absences::default(),
            memories: HashMap::new(),
            told: Vec::new(),
            passed_over: PassedOver::default(),
            hook: None,
        })
    }

    /// Calls `hook` after each performed effect; `Break` ends the pass there. For tests that stop where a crash could.
    pub fn after_each_effect(&mut self, hook: impl FnMut(&Effect) -> ControlFlow<()> + Send + Sync + 'static) {
        self.hook = Some(Box::new(hook));
    }

    /// One scan, and everything that follows from it.
    ///
    /// # Errors
    /// Those of the store that concern more than one object; what was done until then stands.
    pub async fn pass(&mut self) -> Result<PassReport, StoreError> {
        self.pass_at(Instant::now()).await
    }

    /// As [`Self::pass`], with the moment of the scan as a value.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub async fn pass_at(&mut self, now: Instant) -> Result<PassReport, StoreError> {
        let scan = self.scan().await?;
        self.follow(scan, now).await
    }

    /// Wakes when this process has committed a change, for example through /manage.
    pub(super) fn wakeups(&self) -> watch::Receiver<FeedVersion> {
        self.fleet.feed_wakeups()
    }

    /// Whether an object may be found deleted by the next scan even if no byte changes.
    pub(super) fn awaits_deletion(&self) -> bool {
        self.absences.any()
    }

    /// Looks at the manifests once.
    pub(super) async fn scan(&mut self) -> Result<Arc<Scan>, StoreError> {
        let lost = || StoreError::Unavailable("the manifests' reader ended; restart llm-proxy".to_owned());
        let mut scanner = self.scanner.take().ok_or_else(lost)?;
        let read = tokio::task::spawn_blocking(move || {
            let scan = scanner.scan();
            (scanner, scan)
        });
        let (scanner, scan) = read.await.map_err(|_| lost())?;
        self.scanner = Some(scanner);
        Ok(scan)
    }

    /// Does everything that follows from a scan made at `now`.
    pub(super) async fn follow(&mut self, scan: Arc<Scan>, now: Instant) -> Result<PassReport, StoreError> {
        let mut report = PassReport {
            faults: scan.faults.clone(),
            ..PassReport::default()
        };
        let noting = Noting {
            fleet: &self.fleet,
            claim: &self.claim,
            sources: &self.sources,
            now,
        };
        let objects = noting.note(&scan, &mut self.absences, &mut report.faults).await?;
        let mut world = World::read(&self.fleet, Arc::clone(&scan), objects).await?;
        let known = cross::Known {
            objects: world.objects.keys().cloned().collect(),
            secrets: world.secret_owners(),
        };
        report.faults.extend(cross::faults(&scan, &known));
        self.tell(&mut report.faults);
        report.passed_over = self.passed_over.news(world.objects.iter().map(|(key, known)| (key, &known.spec)));
        for field in &report.passed_over {
            tracing::info!("{field}");
        }
        for kind in Kind::ALL {
            let claims = Claims {
                owners: world.secret_owners(),
                wishes: world.secret_wishes(),
            };
            for key in turn(&world, *kind) {
                self.drive(&mut world, &key, &claims, &mut report).await?;
                if report.stopped {
                    return Ok(report);
                }
            }
        }
        report.objects = world.objects.len();
        report.complaints = world.objects.iter().filter_map(|(key, known)| unresolved(key, known)).collect();
        report.env_files = world.objects.iter().filter_map(|(key, known)| self.delivered(key, known)).collect();
        Ok(report)
    }

    /// Logs faults that are new, and once when all are gone.
    fn tell(&mut self, faults: &mut Vec<Fault>) {
        faults.sort();
        faults.dedup();
        for fault in faults.iter().filter(|fault| !self.told.contains(fault)) {
            tracing::error!("{fault}");
        }
        if faults.is_empty() && !self.told.is_empty() {
            tracing::info!("all manifests are valid again");
        }
        self.told.clone_from(faults);
    }

    /// Observes, decides and performs for one object until nothing is left to do for it.
    async fn drive(&mut self, world: &mut World, key: &ObjectKey, claims: &Claims, report: &mut PassReport) -> Result<(), StoreError> {
        for _ in 0..MOST_EFFECTS {
            let Some(known) = world.objects.get(key).cloned() else { return Ok(()) };
            let memory = self.memories.entry(known.stored.uid.clone()).or_default();
            let observer = Observer {
                env: &self.env,
                base_url: &self.base_url,
                claims,
            };
            let decision = decide(&observer.observe(world, key, &known, memory.clone()));
            let Some(effect) = decision.effect else {
                let wait = decision
                    .recheck_at
                    .map(|at| Duration::from_millis(u64::try_from(at.ms_since(world.now)).unwrap_or(0)));
                report.recheck_in = [report.recheck_in, wait].into_iter().flatten().min();
                return Ok(());
            };
            let subject = object(key, &known);
            let before = conditions(&known);
            match perform(&self.fleet, &self.env, &subject, &effect, &before, memory, world.now).await {
                Ok(Outcome::Done(_)) => report.effects += 1,
                Ok(Outcome::Overtaken | Outcome::Failed(_)) => {}
                // The row was changed from elsewhere, for example revoked through /manage: the next pass sees it.
                Err(error @ (StoreError::NotFound { .. } | StoreError::Refused(_))) => {
                    tracing::warn!(kind = %key.kind, namespace = key.namespace, name = key.name, "not done, and looked at again: {error}");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            self.keep_up(world, key, &effect);
            if self.hook.as_mut().is_some_and(|hook| hook(&effect).is_break()) {
                report.stopped = true;
                return Ok(());
            }
            world.refresh(&self.fleet, key.kind, &known.stored.uid).await?;
        }
        tracing::error!(kind = %key.kind, namespace = key.namespace, name = key.name, "does not settle; looked at again in the next pass");
        Ok(())
    }

    /// Keeps the world's copy of an object in step with an effect on the object itself.
    fn keep_up(&mut self, world: &mut World, key: &ObjectKey, effect: &Effect) {
        match effect {
            Effect::SetStatus(status) => {
                if let Some(known) = world.objects.get_mut(key) {
                    known.stored.status = status.to_json().ok();
                }
            }
            Effect::Forget(uid) => {
                world.objects.remove(key);
                self.memories.remove(uid);
                self.absences.forget(key);
            }
            _ => {}
        }
    }

    /// The `.env` file that holds a token's working key, as its status names it.
    fn delivered(&self, key: &ObjectKey, known: &Known) -> Option<PathBuf> {
        let secret = known.stored.status.as_ref()?.get("secretName")?.as_str()?;
        (key.kind == Kind::WitheringToken).then(|| self.env.path(&key.namespace, secret))
    }
}

/// The objects of a kind, deleted ones first: what they held is free for the others then.
fn turn(world: &World, kind: Kind) -> Vec<ObjectKey> {
    let mut keys: Vec<ObjectKey> = world.objects.keys().filter(|key| key.kind == kind).cloned().collect();
    keys.sort_by_key(|key| world.objects.get(key).is_none_or(|known| known.standing != Standing::Gone));
    keys
}

/// What a project refers to and was not found, such as the value of its key.
fn unresolved(key: &ObjectKey, known: &Known) -> Option<String> {
    let refs = conditions(known)
        .into_iter()
        .find(|condition| condition.type_ == ConditionType::ResolvedRefs.as_str())?;
    let missing = key.kind == Kind::LlmProject && known.standing != Standing::Gone && refs.status == ConditionStatus::False.as_str();
    missing.then(|| format!("{key}: {}", refs.message))
}

fn conditions(known: &Known) -> Vec<Condition> {
    let status = known.stored.status.as_ref().and_then(|status| status.get("conditions")).cloned();
    status.and_then(|conditions| serde_json::from_value(conditions).ok()).unwrap_or_default()
}
