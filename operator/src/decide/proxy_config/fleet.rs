//! What a cluster adds to a ProxyConfig: its Secrets, then its database, then its rows, and the pods last, so that none starts on a database that
//! is not ready for it. It refuses to know how anything is performed.

use crds::conditions::{Condition, ConditionType, Finding, find};
use crds::events::EventReason;
use crds::{DatabaseStatus, ProxyConfigStatus, Reason};
use store::DbTime;

use super::{in_force, pods};
use crate::decide::report;
use crate::effect::{Effect, Notice};
use crate::fleet::{ClaimSeen, DatabaseSeen, FleetEffect, FleetObserved, GeneratedSecret, Remains, SecretStanding};
use crate::object::Standing;
use crate::observed::ProxyConfigObserved;

/// How soon to look again at an object of somebody else that is in the way, in ms: nothing tells when it goes.
const LOOK_AGAIN_MS: i64 = 5_000;

impl FleetObserved {
    /// Whether this process has the database open as its leader.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.database, DatabaseSeen::Reached { live: true, .. })
    }

    /// Whether pods may be rolled: onto a database that is ready for them, or was when it was last asked.
    fn takes_pods(&self) -> bool {
        let away = self.database.is_away();
        (self.is_live() || (self.held && away)) && self.has_its_secrets()
    }

    fn has_its_secrets(&self) -> bool {
        self.management == SecretStanding::Good && self.encryption == SecretStanding::Good
    }
}

impl DatabaseSeen {
    fn is_away(&self) -> bool {
        matches!(
            self,
            Self::Failing {
                reason: Reason::DatabaseUnavailable | Reason::DatabaseReadOnly,
                ..
            }
        )
    }
}

/// What is done before the rows are written.
pub(super) fn before_rows(seen: &ProxyConfigObserved) -> Option<Effect> {
    let fleet = seen.fleet.as_deref()?;
    // A spec that breaks a rule is not built from; the database is opened all the same, for tokens have to be revoked.
    if seen.resource.standing != Standing::Present {
        return open(fleet).filter(|effect| matches!(effect, Effect::Fleet(FleetEffect::Open)));
    }
    let refused = is_refused(seen);
    let objects = || management(seen, fleet).or_else(|| child(fleet, false)).or_else(|| encryption(fleet));
    (!refused)
        .then(objects)
        .flatten()
        .or_else(|| open(fleet))
        .or_else(|| migration_told(seen))
}

/// Whether the API server has refused an object and the pause after that is not over.
fn is_refused(seen: &ProxyConfigObserved) -> bool {
    seen.resource.memory.pausing(seen.resource.now).is_some()
}

/// What is done once the rows are written: the pods.
pub(super) fn after_rows(seen: &ProxyConfigObserved) -> Option<Effect> {
    let fleet = seen.fleet.as_deref()?;
    let may = seen.resource.standing == Standing::Present && fleet.takes_pods() && !is_refused(seen);
    may.then(|| child(fleet, true)).flatten()
}

fn management(seen: &ProxyConfigObserved, fleet: &FleetObserved) -> Option<Effect> {
    let lost = match &fleet.management {
        SecretStanding::Absent => "there was none",
        SecretStanding::Broken(_) => "its value could not be used",
        SecretStanding::Good | SecretStanding::Replaced(_) | SecretStanding::Foreign(_) => return None,
    };
    if seen.resource.memory.told.contains(&EventReason::ManagementSecretGenerated) {
        return Some(Effect::Fleet(FleetEffect::GenerateSecret(GeneratedSecret::Management)));
    }
    Some(Effect::Emit(Notice {
        reason: EventReason::ManagementSecretGenerated,
        note: format!("Secret {} gets a fresh management token: {lost}", fleet.shown.management_secret),
    }))
}

/// A key is made only for a database that is known to be nobody's yet.
fn encryption(fleet: &FleetObserved) -> Option<Effect> {
    let nobodys = matches!(
        fleet.database,
        DatabaseSeen::Reached {
            claim: ClaimSeen::Nobody,
            ..
        }
    );
    (nobodys && fleet.encryption == SecretStanding::Absent).then_some(Effect::Fleet(FleetEffect::GenerateSecret(GeneratedSecret::Encryption)))
}

/// Migrates a database that is ours or nobody's, and then claims it.
fn open(fleet: &FleetObserved) -> Option<Effect> {
    let DatabaseSeen::Reached { schema, claim, live: false } = &fleet.database else {
        return None;
    };
    if let ClaimSeen::Former(remains) = claim {
        return (*remains == Remains::Unused).then_some(Effect::Fleet(FleetEffect::Purge));
    }
    if matches!(claim, ClaimSeen::Other(_)) || fleet.encryption != SecretStanding::Good {
        return None;
    }
    let effect = if schema.unwrap_or(0) < fleet.newest_schema {
        FleetEffect::Migrate
    } else {
        FleetEffect::Open
    };
    Some(Effect::Fleet(effect))
}

fn migration_told(seen: &ProxyConfigObserved) -> Option<Effect> {
    let note = format!("the database's schema is at version {}", seen.fleet.as_ref()?.newest_schema);
    seen.resource.memory.migrated.then_some(Effect::Emit(Notice {
        reason: EventReason::MigrationFinished,
        note,
    }))
}

fn child(fleet: &FleetObserved, needs_database: bool) -> Option<Effect> {
    let of_turn = fleet.children.iter().filter(|child| child.needs_database == needs_database);
    of_turn.filter_map(|child| child.act.clone()).next().map(Effect::Fleet)
}

/// When to look again for reasons of the cluster.
pub(super) fn recheck(seen: &ProxyConfigObserved) -> Option<DbTime> {
    let fleet = seen.fleet.as_deref()?;
    let waits = matches!(
        fleet.database,
        DatabaseSeen::Reached {
            claim: ClaimSeen::Former(_),
            ..
        }
    );
    let blocked = waits || fleet.children.iter().any(|child| child.conflict.is_some());
    let look_again = blocked.then(|| seen.resource.now.plus_ms(LOOK_AGAIN_MS));
    let refused = seen.resource.memory.pausing(seen.resource.now).map(|setback| setback.retry_at);
    [fleet.retry_at, look_again, refused, pods::recheck(seen, fleet)]
        .into_iter()
        .flatten()
        .min()
}

/// The conditions of a fleet in a cluster, but for `Ready`, and for `Progressing` unless an object is refused.
pub(super) fn findings(seen: &ProxyConfigObserved, fleet: &FleetObserved) -> Vec<Finding> {
    vec![
        report::accepted(&seen.resource.standing),
        resolved(fleet),
        database(fleet),
        migrated(fleet),
        programmed(seen, fleet),
        pods::serving(seen, fleet),
    ]
    .into_iter()
    .chain(not_applied(seen))
    .collect()
}

fn resolved(fleet: &FleetObserved) -> Finding {
    let fails = |reason, message: &str| Finding::fails(ConditionType::ResolvedRefs, reason, message);
    if let DatabaseSeen::Unresolved { reason, message } = &fleet.database {
        return fails(*reason, message);
    }
    let claimed = !matches!(
        fleet.database,
        DatabaseSeen::Reached {
            claim: ClaimSeen::Nobody,
            ..
        }
    );
    match (&fleet.management, &fleet.encryption) {
        (SecretStanding::Foreign(why), _) => fails(Reason::SecretConflict, why),
        // A database that is claimed proves a key by itself, whoever has put it there.
        (_, SecretStanding::Foreign(why)) if !claimed => fails(Reason::SecretConflict, why),
        (_, SecretStanding::Broken(why)) if !claimed => fails(Reason::SecretKeyMissing, why),
        _ => match fleet.children.iter().find_map(|child| child.conflict.as_deref()) {
            Some(why) => fails(Reason::NameConflict, why),
            None => Finding::holds(
                ConditionType::ResolvedRefs,
                Reason::ResolvedRefs,
                "the Secret with the database URL was found, and the names of the fleet's objects are its own",
            ),
        },
    }
}

fn database(fleet: &FleetObserved) -> Finding {
    let fails = |reason, message: &str| Finding::fails(ConditionType::DatabaseReady, reason, message);
    let unknown = |message: &str| Finding::unknown(ConditionType::DatabaseReady, Reason::Pending, message);
    let (claim, live) = match &fleet.database {
        DatabaseSeen::NotNamed => return unknown("waiting for a valid spec"),
        DatabaseSeen::Unresolved { .. } => return unknown("waiting for the database URL"),
        DatabaseSeen::Failing { reason, message } => return fails(*reason, message),
        DatabaseSeen::Reached { claim, live, .. } => (claim, *live),
    };
    match (claim, &fleet.encryption) {
        (ClaimSeen::Other(why), _) => fails(Reason::DatabaseConflict, why),
        (ClaimSeen::Former(_), _) => {
            unknown("a former ProxyConfig of this name takes its rows along, once the last of its pods is gone; nothing is to be done")
        }
        (ClaimSeen::Ours, SecretStanding::Broken(why) | SecretStanding::Replaced(why)) => fails(Reason::EncryptionKeyMismatch, why),
        (ClaimSeen::Ours, SecretStanding::Absent) => {
            let kept = if live {
                "; what runs keeps the key in memory, but no pod can start"
            } else {
                ""
            };
            let why = format!(
                "the Secret with the encryption key is gone; restore it from a copy: the provider credentials in the database cannot be opened with \
                 any other, so it is never made anew{kept}"
            );
            fails(Reason::EncryptionKeyMismatch, &why)
        }
        _ if live => Finding::holds(
            ConditionType::DatabaseReady,
            Reason::DatabaseReady,
            "the database is reached, claimed and writable",
        ),
        _ => unknown("the database answers and is not claimed yet"),
    }
}

fn migrated(fleet: &FleetObserved) -> Finding {
    match &fleet.database {
        DatabaseSeen::Reached {
            schema: Some(schema), live, ..
        } if *live || *schema >= fleet.newest_schema => Finding::holds(
            ConditionType::Migrated,
            Reason::Migrated,
            format!("the database's schema is at version {schema}"),
        ),
        DatabaseSeen::Failing {
            reason: reason @ (Reason::MigrationFailed | Reason::SchemaTooNew),
            message,
        } => Finding::fails(ConditionType::Migrated, *reason, message.clone()),
        _ => Finding::unknown(
            ConditionType::Migrated,
            Reason::Pending,
            "the database's schema is not known at this moment",
        ),
    }
}

fn programmed(seen: &ProxyConfigObserved, fleet: &FleetObserved) -> Finding {
    if fleet.is_live() {
        return in_force(seen);
    }
    let reason = match fleet.database {
        DatabaseSeen::Failing { .. } => Reason::DatabaseUnavailable,
        _ => Reason::Pending,
    };
    let why = "what the replicas have acknowledged stands in the database, which cannot be asked";
    Finding::unknown(ConditionType::Programmed, reason, why)
}

/// `Progressing`, where the API server does not take an object.
fn not_applied(seen: &ProxyConfigObserved) -> Option<Finding> {
    let setback = seen.resource.memory.setback.as_ref()?;
    let message = format!("{}; tried again with growing pauses", setback.why);
    Some(Finding::fails(ConditionType::Progressing, Reason::ApplyFailed, message))
}

/// The events of a fleet's rollouts and of its database.
pub(super) fn notices(before: &[Condition], findings: &[Finding]) -> Vec<Notice> {
    let event = |finding: &Finding| {
        let was = find(before, finding.about).map(|old| old.reason.as_str());
        if was == Some(finding.reason.as_str()) {
            return None;
        }
        let failing = [Reason::DatabaseUnavailable, Reason::DatabaseReadOnly].map(Reason::as_str);
        match (finding.about, finding.reason) {
            (ConditionType::Progressing, Reason::RollingOut) => Some(EventReason::RolloutStarted),
            (ConditionType::Progressing, Reason::Deployed) => was.map(|_| EventReason::RolloutFinished),
            (ConditionType::Progressing, Reason::RolloutFailed | Reason::ImagePullFailed | Reason::ApplyFailed) => Some(EventReason::RolloutFailed),
            (ConditionType::Migrated, Reason::MigrationFailed) => Some(EventReason::MigrationFailed),
            (ConditionType::ResolvedRefs, Reason::SecretConflict) => Some(EventReason::SecretConflict),
            (ConditionType::DatabaseReady, reason) if failing.contains(&reason.as_str()) => Some(EventReason::DatabaseUnavailable),
            (ConditionType::DatabaseReady, Reason::DatabaseReady) => was.filter(|was| failing.contains(was)).map(|_| EventReason::DatabaseRecovered),
            _ => None,
        }
    };
    let notice = |finding: &Finding| {
        let reason = event(finding)?;
        // How many pods are new by then is chance; the condition says it as it goes on.
        let note = match reason {
            EventReason::RolloutStarted => "pods are being replaced; Progressing says how far it is".to_owned(),
            _ => finding.message.clone(),
        };
        Some(Notice { reason, note })
    };
    findings.iter().filter_map(notice).collect()
}

/// What status shows of a fleet in a cluster.
pub(super) fn fill_in(status: ProxyConfigStatus, fleet: &FleetObserved) -> ProxyConfigStatus {
    let engine = (fleet.database != DatabaseSeen::NotNamed).then(|| "PostgreSQL".to_owned());
    ProxyConfigStatus {
        replicas: fleet.rollout.as_ref().map(|rollout| rollout.replicas),
        ready_replicas: fleet.rollout.as_ref().map(|rollout| rollout.ready),
        selector: Some(fleet.shown.selector.clone()),
        image: Some(fleet.shown.image.clone()),
        management_secret_name: Some(fleet.shown.management_secret.clone()),
        database: Some(DatabaseStatus {
            engine,
            schema_version: fleet.shown.schema_version,
        }),
        ..status
    }
}
