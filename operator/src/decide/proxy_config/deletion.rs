//! What the deletion of a ProxyConfig is to mean, written down while it is there, and what is left to be done once it is gone.
//! It refuses to know how rows are removed and who deletes children: those go by their owner.

use store::DeletionPolicy;

use crate::decide::deletion_policy;
use crate::effect::{Decision, Effect};
use crate::fleet::{FleetEffect, FleetObserved, Remains, SecretStanding};
use crate::observed::ProxyConfigObserved;

/// How soon to look again whether the last replica has ended, in ms.
const LOOK_AGAIN_MS: i64 = 1_000;

/// The row says what the spec says, and the key's Secret goes with the fleet only after the row says that the rows do; the other way round the
/// Secret comes first. So whenever the ProxyConfig is deleted, no rows are left without the key to open them.
pub(super) fn note(seen: &ProxyConfigObserved, fleet: &FleetObserved) -> Option<Effect> {
    if !fleet.is_live() || !seen.resource.spec_counts() {
        return None;
    }
    let policy = deletion_policy(seen.resource.spec.deletion_policy);
    let said = fleet.deletion.as_ref()?;
    let goes = policy == DeletionPolicy::Delete;
    let is_said = said.policy == policy && (!goes || said.declared_by.as_ref() == Some(&seen.resource.object.uid));
    let row = || (!is_said).then_some(FleetEffect::SetDeletion(policy));
    // A key that is not known to be this database's is touched by nobody.
    let is_tied = fleet.encryption != SecretStanding::Good || fleet.key_goes.is_none_or(|stands| stands == goes);
    let key = || (!is_tied).then_some(FleetEffect::TieKey(goes));
    let effect = if goes { row().or_else(key) } else { key().or_else(row) };
    effect.map(Effect::Fleet)
}

/// What is left to be done for one that is gone: its rows go, if they are to, once no replica uses them. What stays is for the same name to claim.
pub(super) fn leave(seen: &ProxyConfigObserved) -> Decision {
    let (effect, recheck_at) = match seen.remains {
        Remains::Nothing => (Some(Effect::Forget(seen.resource.object.uid.clone())), None),
        Remains::InUse => (None, Some(seen.resource.now.plus_ms(LOOK_AGAIN_MS))),
        Remains::Unused => (Some(Effect::Fleet(FleetEffect::Purge)), None),
    };
    Decision { effect, recheck_at }
}
