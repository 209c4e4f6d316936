//! `Programmed`: an addition is in force when its transaction has committed, a take-away when every replica that counts has acknowledged it.
//! It refuses to know what was taken away and which replicas count.

use crds::Reason;
use crds::conditions::{ConditionType, Finding};
use store::{DbTime, FeedVersion, ReplicaView};

/// How soon to look again at replicas that have not acknowledged, in ms.
const LOOK_AGAIN_MS: i64 = 200;
/// How many replicas a message names at most.
const NAMED: usize = 5;

/// The condition for rows whose last take-away has this version.
pub(crate) fn programmed(takeaway: FeedVersion, replicas: &[ReplicaView]) -> Finding {
    let late: Vec<String> = replicas
        .iter()
        .filter(|replica| replica.acked < takeaway)
        .map(|replica| replica.holder.to_string())
        .collect();
    if late.is_empty() {
        return Finding::holds(ConditionType::Programmed, Reason::Programmed, "in force on every replica");
    }
    let named = late.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if late.len() > NAMED { ", …" } else { "" };
    let message = format!(
        "{} of {} replicas have not acknowledged it yet: {named}{more}",
        late.len(),
        replicas.len()
    );
    Finding::fails(ConditionType::Programmed, Reason::AwaitingReplicas, message)
}

/// When to look again if replicas are awaited.
pub(crate) fn recheck(finding: &Finding, now: DbTime) -> Option<DbTime> {
    (finding.reason == Reason::AwaitingReplicas).then(|| now.plus_ms(LOOK_AGAIN_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::HolderId;

    fn replica(acked: i64) -> ReplicaView {
        ReplicaView {
            holder: HolderId::new(),
            acked: FeedVersion(acked),
            seen_at: DbTime(0),
            stale_after_ms: 1_000,
        }
    }

    #[test]
    fn a_take_away_waits_for_every_replica_and_names_the_late_ones() {
        let (fast, slow) = (replica(7), replica(6));
        let finding = programmed(FeedVersion(7), &[fast, slow]);
        assert_eq!(finding.reason, Reason::AwaitingReplicas);
        assert!(finding.message.contains(&slow.holder.to_string()) && !finding.message.contains(&fast.holder.to_string()));
        assert_eq!(recheck(&finding, DbTime(0)), Some(DbTime(LOOK_AGAIN_MS)));
    }

    #[test]
    fn without_replicas_there_is_nobody_to_wait_for() {
        let finding = programmed(FeedVersion(7), &[]);
        assert_eq!(finding.reason, Reason::Programmed);
        assert_eq!(recheck(&finding, DbTime(0)), None);
    }
}
