//! What deleting a fleet means: noted while it is there, in an order that never parts the rows from their key, and done once it is gone.

use store::{DeletionPolicy, FleetDeletion};

use super::cluster::with;
use super::*;
use crate::fleet::{ClaimSeen, DatabaseSeen, FleetEffect, FleetObserved, Remains, SecretStanding};

fn said(policy: DeletionPolicy, by: &str) -> Option<FleetDeletion> {
    Some(FleetDeletion {
        policy,
        declared_by: Some(ResourceUid::new(by)),
    })
}

/// The fleet's effects about its deletion, one after the other, each taken for done.
fn noted(mut seen: ProxyConfigObserved) -> Vec<String> {
    let mut noted = Vec::new();
    while let Some(Effect::Fleet(effect)) = decide(&seen).effect {
        noted.push(format!("{effect:?}"));
        let uid = seen.resource.object.uid.clone();
        let fleet = seen.fleet.as_mut().unwrap();
        match effect {
            FleetEffect::SetDeletion(policy) => {
                fleet.deletion = Some(FleetDeletion {
                    policy,
                    declared_by: Some(uid),
                });
            }
            FleetEffect::TieKey(goes) => fleet.key_goes = Some(goes),
            other => panic!("{other:?}"),
        }
    }
    noted
}

fn wishing(policy: crds::DeletionPolicy, change: impl FnOnce(&mut FleetObserved)) -> ProxyConfigObserved {
    let mut seen = with(change);
    seen.resource.spec.deletion_policy = policy;
    seen
}

#[test]
fn the_row_is_told_before_the_key_goes_with_the_fleet_and_after_it_stays() {
    let to_go = wishing(crds::DeletionPolicy::Delete, |_| ());
    assert_eq!(noted(to_go), ["SetDeletion(Delete)", "TieKey(true)"]);
    let to_stay = wishing(crds::DeletionPolicy::Retain, |fleet| {
        (fleet.deletion, fleet.key_goes) = (said(DeletionPolicy::Delete, "u-3"), Some(true));
    });
    assert_eq!(noted(to_stay), ["TieKey(false)", "SetDeletion(Retain)"]);
    // What stands so already, and the default, cost nothing.
    assert!(noted(wishing(crds::DeletionPolicy::Retain, |_| ())).is_empty());
    let stands = |fleet: &mut FleetObserved| (fleet.deletion, fleet.key_goes) = (said(DeletionPolicy::Delete, "u-3"), Some(true));
    assert!(noted(wishing(crds::DeletionPolicy::Delete, stands)).is_empty());
    // That of another ProxyConfig is not this one's word.
    let anothers = |fleet: &mut FleetObserved| (fleet.deletion, fleet.key_goes) = (said(DeletionPolicy::Delete, "u-1"), Some(true));
    assert_eq!(noted(wishing(crds::DeletionPolicy::Delete, anothers)), ["SetDeletion(Delete)"]);
}

#[test]
fn a_key_that_is_not_known_to_be_the_databases_is_touched_by_nobody() {
    let lost = wishing(crds::DeletionPolicy::Delete, |fleet| {
        (fleet.encryption, fleet.key_goes) = (SecretStanding::Replaced("another".to_owned()), Some(false));
    });
    assert_eq!(noted(lost), ["SetDeletion(Delete)"]);
    let away = wishing(crds::DeletionPolicy::Delete, |fleet| {
        (fleet.deletion, fleet.database) = (None, DatabaseSeen::NotNamed);
    });
    assert!(noted(away).is_empty());
}

#[test]
fn one_that_is_gone_is_forgotten_or_takes_its_rows_along_after_the_last_replica() {
    let mut seen = declared();
    seen.resource.standing = Standing::Gone;
    assert!(matches!(decide(&seen).effect, Some(Effect::Forget(_))));
    seen.remains = Remains::InUse;
    let waiting = decide(&seen);
    assert!(waiting.effect.is_none() && waiting.recheck_at.is_some());
    seen.remains = Remains::Unused;
    assert!(matches!(decide(&seen).effect, Some(Effect::Fleet(FleetEffect::Purge))));
    for (policy, uid, replicas, expected) in [
        (DeletionPolicy::Retain, "u-3", 0, Remains::Nothing),
        (DeletionPolicy::Delete, "u-1", 0, Remains::Nothing),
        (DeletionPolicy::Delete, "u-3", 1, Remains::InUse),
        (DeletionPolicy::Delete, "u-3", 0, Remains::Unused),
    ] {
        let said = said(policy, uid).unwrap();
        assert_eq!(Remains::of(&said, &ResourceUid::new("u-3"), replicas), expected);
    }
}

#[test]
fn one_that_is_made_again_under_its_name_waits_for_that_and_inherits_nothing() {
    let former = |remains| {
        with(|fleet| {
            fleet.database = DatabaseSeen::Reached {
                schema: Some(5),
                claim: ClaimSeen::Former(remains),
                live: false,
            };
            fleet.encryption = SecretStanding::Foreign("it goes".to_owned());
            (fleet.deletion, fleet.key_goes) = (None, Some(false));
        })
    };
    let waiting = former(Remains::InUse);
    let (_, status) = verdict(&waiting);
    says(&status, ConditionType::DatabaseReady, "Unknown", Reason::Pending);
    assert_eq!(decide(&waiting).recheck_at, Some(waiting.resource.now.plus_ms(5_000)));
    assert!(matches!(decide(&former(Remains::Unused)).effect, Some(Effect::Fleet(FleetEffect::Purge))));
}
