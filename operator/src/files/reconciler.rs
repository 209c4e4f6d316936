//! The loop of standalone: scan, note what is declared, and drive every object until nothing is left to do.
//! It refuses to know what the effects mean; the pure core decides them.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::Kind;
use crds::conditions::{Condition, ConditionType, find};
use store::{Claim, DbTime, FileObject, Fleet, ResourceUid, StoreError};

use super::absence::Absences;
use super::cross;
use super::env_file::EnvDir;
use super::fault::Fault;
use super::manifest::{Manifest, Spec, secret_name};
use super::object_key::ObjectKey;
use super::observe::{Claims, Observer, object};
use super::perform::{Outcome, perform};
use super::scan::{Scan, Scanner};
use super::sources::Sources;
use super::world::{Known, World};
use crate::decide::decide;
use crate::effect::Effect;
use crate::memory::Memory;
use crate::object::Standing;

/// How often the files are looked at.
const SCAN_EVERY: Duration = Duration::from_millis(250);
/// How often the objects are looked at while no file changes: quotas run out and `.env` files are edited without a sign.
const DRIVE_EVERY: Duration = Duration::from_millis(500);
/// The longest pause after passes that the database failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// More effects than any object needs in one pass; reached only by a fault of ours.
const MOST_EFFECTS: usize = 64;

/// Called after each performed effect; `Break` ends the pass on the spot, as a crash would.
type Hook = Box<dyn FnMut(&Effect) -> ControlFlow<()> + Send>;

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
    /// How many effects were performed; none if all was as it should be.
    pub effects: usize,
    /// When time alone changes something.
    pub recheck_at: Option<DbTime>,
    /// Whether a hook ended the pass.
    pub stopped: bool,
}

/// The `files` executor.
pub struct FilesReconciler {
    scanner: Option<Scanner>,
    fleet: Fleet,
    claim: Claim,
    env: EnvDir,
    base_url: String,
    absences: Absences,
    memories: HashMap<ResourceUid, Memory>,
    told: Vec<Fault>,
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
        Ok(Self {
            scanner: Some(Scanner::new(sources)),
            fleet,
            claim,
            env,
            base_url,
            absences: Absences::default(),
            memories: HashMap::new(),
            told: Vec::new(),
            hook: None,
        })
    }

    /// Calls `hook` after each performed effect; `Break` ends the pass there. For tests that stop where a crash could.
    pub fn after_each_effect(&mut self, hook: impl FnMut(&Effect) -> ControlFlow<()> + Send + 'static) {
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

    /// Runs until `shutdown` is ready. Errors of the database are logged and tried again.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut wakeups = self.fleet.feed_wakeups();
        let mut before: Option<Arc<Scan>> = None;
        let mut driven = Instant::now();
        let mut recheck = None;
        let mut pause = SCAN_EVERY;
        tokio::pin!(shutdown);
        loop {
            let woken = tokio::select! {
                () = &mut shutdown => return,
                changed = wakeups.changed() => changed.is_ok(),
                () = tokio::time::sleep(pause) => false,
            };
            let now = Instant::now();
            let result = match self.scan().await {
                Ok(scan) => {
                    let changed = before.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &scan));
                    let due = recheck.is_some_and(|at| now >= at) || now.duration_since(driven) >= DRIVE_EVERY;
                    if !(woken || changed || due || self.absences.any()) {
                        continue;
                    }
                    before = Some(Arc::clone(&scan));
                    self.follow(scan, now).await
                }
                Err(error) => Err(error),
            };
            driven = Instant::now();
            wakeups.mark_unchanged();
            match result {
                Ok(report) => {
                    pause = SCAN_EVERY;
                    recheck = self.until(report.recheck_at).await.map(|wait| driven + wait);
                    pause = recheck.map_or(pause, |at| pause.min(at.duration_since(driven)));
                }
                Err(error) => {
                    tracing::error!("reconciling failed and is tried again: {error}");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// How long it is until a moment of the database's clock.
    async fn until(&self, at: Option<DbTime>) -> Option<Duration> {
        let now = self.fleet.store().now().await.ok()?;
        Some(Duration::from_millis(u64::try_from(at?.ms_since(now)).unwrap_or(0)))
    }

    async fn scan(&mut self) -> Result<Arc<Scan>, StoreError> {
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

    async fn follow(&mut self, scan: Arc<Scan>, now: Instant) -> Result<PassReport, StoreError> {
        let mut report = PassReport {
            faults: scan.faults.clone(),
            ..PassReport::default()
        };
        let objects = self.note(&scan, now, &mut report).await?;
        let mut world = World::read(&self.fleet, Arc::clone(&scan), objects).await?;
        let known = cross::Known {
            objects: world.objects.keys().cloned().collect(),
            secrets: world.secret_owners(),
        };
        report.faults.extend(cross::faults(&scan, &known));
        self.tell(&mut report.faults);
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
        report.env_files = world.objects.iter().filter_map(|(key, known)| self.delivered(key, known)).collect();
        Ok(report)
    }

    /// Notes every valid manifest in the database and judges how each stored object stands.
    async fn note(&mut self, scan: &Scan, now: Instant, report: &mut PassReport) -> Result<BTreeMap<ObjectKey, Known>, StoreError> {
        let mut stored: BTreeMap<ObjectKey, FileObject> = BTreeMap::new();
        for object in self.fleet.file_objects().await? {
            stored.extend(ObjectKey::of_stored(&object.key).map(|key| (key, object)));
        }
        let mut invalid: HashMap<ObjectKey, String> = HashMap::new();
        for (key, manifest) in &scan.manifests {
            let faults = self.objections(manifest, stored.get(key));
            if let Some(first) = faults.first() {
                invalid.insert(key.clone(), first.to_string());
                report.faults.extend(faults);
                continue;
            }
            let spec = manifest.spec.to_json().map_err(|error| StoreError::Corrupt {
                what: "manifest",
                why: error.to_string(),
            })?;
            let known = stored
                .get(key)
                .is_some_and(|object| object.spec == spec && *object.source == *manifest.place.source);
            if !known {
                stored.insert(
                    key.clone(),
                    self.fleet.see_file_object(&key.stored(), &manifest.place.source, &spec).await?,
                );
            }
        }
        let Some(scanner) = &self.scanner else { return Ok(BTreeMap::new()) };
        let mut objects = BTreeMap::new();
        for (key, object) in stored {
            let spec = match Spec::of_stored(key.kind, &object.spec) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(kind = %key.kind, namespace = key.namespace, name = key.name, "the stored spec cannot be read: {error}");
                    continue;
                }
            };
            let standing = self.absences.standing(&key, &object.source, scan, scanner.sources(), now);
            let standing = invalid.remove(&key).map_or(standing, Standing::Invalid);
            objects.insert(
                key,
                Known {
                    stored: object,
                    spec,
                    standing,
                },
            );
        }
        Ok(objects)
    }

    /// What speaks against a manifest that is valid by itself: another fleet, or a change that its kind does not allow.
    fn objections(&self, manifest: &Manifest, stored: Option<&FileObject>) -> Vec<Fault> {
        let served = (self.claim.namespace.as_str(), self.claim.name.as_str());
        if manifest.key.kind == Kind::ProxyConfig && (manifest.key.namespace.as_str(), manifest.key.name.as_str()) != served {
            let message = format!(
                "this data directory serves ProxyConfig {}/{}; exactly one is served, give this one another --data-dir",
                served.0, served.1
            );
            return vec![manifest.place.fault("metadata.name", message)];
        }
        let Some(old) = stored.and_then(|object| Spec::of_stored(manifest.key.kind, &object.spec).ok()) else {
            return Vec::new();
        };
        manifest
            .spec
            .broken_by_update(&old)
            .into_iter()
            .map(|violation| manifest.place.fault(&violation.field, violation.message))
            .collect()
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
                report.recheck_at = [report.recheck_at, decision.recheck_at].into_iter().flatten().min();
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

    /// The `.env` file of a token whose status says that it is delivered.
    fn delivered(&self, key: &ObjectKey, known: &Known) -> Option<PathBuf> {
        let Spec::Token(spec) = &known.spec else { return None };
        let is_delivered = find(&conditions(known), ConditionType::Delivered).is_some_and(|condition| condition.status == "True");
        is_delivered.then(|| self.env.path(&key.namespace, secret_name(&key.name, spec)))
    }
}

/// The objects of a kind, deleted ones first: what they held is free for the others then.
fn turn(world: &World, kind: Kind) -> Vec<ObjectKey> {
    let mut keys: Vec<ObjectKey> = world.objects.keys().filter(|key| key.kind == kind).cloned().collect();
    keys.sort_by_key(|key| world.objects.get(key).is_none_or(|known| known.standing != Standing::Gone));
    keys
}

fn conditions(known: &Known) -> Vec<Condition> {
    let status = known.stored.status.as_ref().and_then(|status| status.get("conditions")).cloned();
    status.and_then(|conditions| serde_json::from_value(conditions).ok()).unwrap_or_default()
}
