//! A WitheringToken: which of its steps comes next. Each step is a function that returns an effect or passes on; the first that returns one wins.
//! It refuses to know files, API servers and SQL. The rules: contracts.md §2.

mod facts;
mod issue;
mod timing;
mod unavailable;
mod verdict;

use store::{RevisionState, RevokedBy, TokenChange, TokenState, TokenValue};

use self::facts::{Facts, Holding};
use super::{limits, report};
use crate::effect::{Decision, Effect, SecretVersion, SecretWrite, Status};
use crate::observed::{ProjectSeen, TokenObserved};

/// Decides the next effect for a WitheringToken.
pub(super) fn decide(seen: &TokenObserved) -> Decision {
    if let ProjectSeen::Unavailable { reason, message } = &seen.project {
        return unavailable::decide(seen, *reason, message);
    }
    let facts = Facts::of(seen);
    if is_leaving(&facts) {
        let retry_at = seen.resource.memory.pausing(seen.resource.now).map(|setback| setback.retry_at);
        return Decision {
            effect: leave(&facts),
            recheck_at: retry_at,
        };
    }
    let findings = verdict::findings(&facts);
    let effect = revoke(&facts)
        .or_else(|| bury(&facts))
        .or_else(|| deliver(&facts))
        .or_else(|| adjust(&facts))
        .or_else(|| if seen.resource.spec_counts() { follow(&facts) } else { None })
        .or_else(|| {
            report::report(
                &seen.resource,
                verdict::status(&facts, &findings),
                verdict::notices(&facts, &findings),
                Status::Token,
            )
        });
    Decision {
        effect,
        recheck_at: verdict::recheck_at(&facts, &findings),
    }
}

/// What only a good spec can ask for.
fn follow(facts: &Facts<'_>) -> Option<Effect> {
    rename(facts).or_else(|| issue::issue(facts)).or_else(|| rewrite(facts))
}

/// Deleted, or deleted by a process that died before it could forget: what comes back under the same name is another resource.
fn is_leaving(facts: &Facts<'_>) -> bool {
    facts.seen.resource.is_gone() || facts.row.is_some_and(|row| row.revoked_by == Some(RevokedBy::Deletion))
}

/// Deletion, in an order in which a crash leaves nothing behind: the values die, the Secret goes, and only then is the resource forgotten.
fn leave(facts: &Facts<'_>) -> Option<Effect> {
    if let Some(row) = facts.row.filter(|row| row.state != TokenState::Revoked) {
        return Some(Effect::Revoke {
            token: row.id,
            by: RevokedBy::Deletion,
        });
    }
    if standing(facts).next().is_some() {
        return delete_secret(facts);
    }
    Some(Effect::Forget(facts.seen.resource.object.uid.clone()))
}

/// The spec says Revoked.
fn revoke(facts: &Facts<'_>) -> Option<Effect> {
    let row = facts.row.filter(|row| row.state != TokenState::Revoked)?;
    (facts.seen.resource.spec.state == crds::TokenState::Revoked).then_some(Effect::Revoke {
        token: row.id,
        by: RevokedBy::Spec,
    })
}

/// Revoked, by whomever: the Secret goes, and only the status is kept up. Nothing below applies to a revoked token.
fn bury(facts: &Facts<'_>) -> Option<Effect> {
    facts.row.filter(|row| row.state == TokenState::Revoked)?;
    delete_secret(facts)
}

/// A value that stands in its Secret is activated; a value in hand is written. This comes before everything that could issue another.
fn deliver(facts: &Facts<'_>) -> Option<Effect> {
    let row = living(facts)?;
    let memory = &facts.seen.resource.memory;
    let delivered = facts
        .pending()
        .find(|pending| facts.home.holding.revision().is_some_and(|held| held.digest == pending.digest));
    if let Some(pending) = delivered {
        return Some(Effect::Activate {
            token: row.id,
            digest: pending.digest,
            overlap_ms: facts.overlap_ms(),
        });
    }
    let value = memory.in_hand.as_ref()?;
    let pending = in_hand(facts)?;
    if facts.is_blocked() || memory.pausing(facts.seen.resource.now).is_some() {
        return None;
    }
    if !pending.write_begun {
        return Some(Effect::BeginSecretWrite {
            token: row.id,
            digest: pending.digest,
        });
    }
    // Before a renewal the Secret holds the active value; otherwise somebody has changed or deleted it.
    let repair = facts.active.is_some() && !facts.holds_active(&facts.home);
    Some(write(facts, value.clone(), repair, facts.expected()))
}

/// The home written around a value.
fn write(facts: &Facts<'_>, value: TokenValue, repair: bool, expect: Option<SecretVersion>) -> Effect {
    Effect::WriteSecret(SecretWrite {
        name: facts.home.name.to_owned(),
        value,
        base_url: facts.seen.base_url.clone(),
        formats: facts.seen.formats.clone(),
        repair,
        expect,
    })
}

/// State, limits and a shortened lifetime hold at once, for the revisions that live; of a spec that does not count only the state, which is good
/// by itself.
fn adjust(facts: &Facts<'_>) -> Option<Effect> {
    let row = living(facts)?;
    let spec = &facts.seen.resource.spec;
    let state = match (spec.state, row.state) {
        (crds::TokenState::Active, TokenState::Suspended) => Some(TokenState::Active),
        (crds::TokenState::Suspended, TokenState::Active) => Some(TokenState::Suspended),
        _ => None,
    };
    let counts = facts.seen.resource.spec_counts();
    let limit = spec.max_requests.and_then(|limit| u64::try_from(limit).ok());
    let limits = limits::of_token(spec);
    let clamped = facts
        .active
        .map(|active| (active, active.issued_at.plus_ms(facts.lifetime_ms())))
        .filter(|(active, end)| active.ends_at > *end);
    let change = TokenChange {
        state,
        max_requests: (counts && limit != row.max_requests).then_some(limit),
        limits: (counts && limits != row.limits).then_some(limits),
        clamp_ends: clamped.filter(|_| counts && in_hand(facts).is_none()).map(|(_, end)| end),
        secret_name: None,
    };
    let nothing = change.state.is_none() && change.max_requests.is_none() && change.limits.is_none() && change.clamp_ends.is_none();
    (!nothing).then_some(Effect::ChangeToken { token: row.id, change })
}

/// Another Secret name: the value is written under the new one, the old Secret goes, and only then does the row change, so that nothing is
/// lost track of.
fn rename(facts: &Facts<'_>) -> Option<Effect> {
    let row = living(facts).filter(|row| row.secret_name != facts.home.name)?;
    let seen = facts.seen;
    let former = facts
        .other
        .filter(|_| !facts.is_blocked() && seen.resource.memory.pausing(seen.resource.now).is_none())?;
    if let Holding::Revision(_, content) = former.holding
        && let Some(value) = content
            .value
            .as_ref()
            .filter(|_| facts.holds_active(&former) && !facts.holds_active(&facts.home))
    {
        return Some(write(facts, value.clone(), false, facts.expected()));
    }
    if let Some(expect) = former.holding.ours() {
        return Some(Effect::DeleteSecret {
            name: former.name.to_owned(),
            expect: expect.clone(),
        });
    }
    let change = TokenChange {
        secret_name: Some(facts.home.name.to_owned()),
        ..TokenChange::default()
    };
    Some(Effect::ChangeToken { token: row.id, change })
}

/// A changed address and changed formats rewrite the Secret around the same value.
fn rewrite(facts: &Facts<'_>) -> Option<Effect> {
    living(facts)?;
    let (memory, now) = (&facts.seen.resource.memory, facts.seen.resource.now);
    let Holding::Revision(_, content) = facts.home.holding else {
        return None;
    };
    let blocked = facts.is_blocked() || memory.pausing(now).is_some();
    if !facts.holds_active(&facts.home) || blocked || facts.is_dressed(content) {
        return None;
    }
    let as_written = |(formats, base_url): &(Vec<_>, String)| *formats == facts.seen.formats && *base_url == facts.seen.base_url;
    let repair = memory.written.as_ref().is_some_and(as_written);
    if repair && memory.contention.until(now).is_some() {
        return None;
    }
    Some(write(facts, content.value.clone()?, repair, Some(content.version.clone())))
}

fn living<'a>(facts: &Facts<'a>) -> Option<&'a store::TokenView> {
    facts.row.filter(|row| row.state != TokenState::Revoked)
}

/// The pending revision whose value is in hand.
fn in_hand<'a>(facts: &Facts<'a>) -> Option<&'a store::RevisionView> {
    let digest = facts.seen.resource.memory.in_hand.as_ref()?.digest();
    facts
        .pending()
        .find(|pending| pending.state == RevisionState::Pending && pending.digest == digest)
}

/// The Secrets of this token that stand.
fn standing<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (&'a str, &'a SecretVersion)> {
    [Some(&facts.home), facts.other.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|home| Some((home.name, home.holding.ours()?)))
}

fn delete_secret(facts: &Facts<'_>) -> Option<Effect> {
    let resource = &facts.seen.resource;
    let (name, expect) = standing(facts).next().filter(|_| resource.memory.pausing(resource.now).is_none())?;
    Some(Effect::DeleteSecret {
        name: name.to_owned(),
        expect: expect.clone(),
    })
}

#[cfg(test)]
mod tests;
