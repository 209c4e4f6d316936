//! A token for which nothing is to be done.

use super::*;

#[test]
fn an_issued_token_is_ready_and_says_what_it_holds() {
    let (seen, value) = issued();
    let (events, _) = effect_after_events(&seen);
    let status = verdict(&seen);
    assert_eq!(events, [EventReason::TokenIssued]);
    says(&status, ConditionType::Ready, "True", Reason::Issued);
    says(&status, ConditionType::Delivered, "True", Reason::Delivered);
    assert_eq!(
        (status.revision, status.token_prefix.as_deref(), status.secret_name.as_deref()),
        (Some(1), Some(value.prefix()), Some("web"))
    );
    assert!(status.previous.is_none() && status.renewal_time < status.expiration_time);
}

#[test]
fn a_converged_token_has_no_effect_and_is_looked_at_again_when_it_falls_due() {
    let (mut seen, value) = issued();
    seen.resource.status = Some(verdict(&seen));
    let Decision { effect, recheck_at } = decide(&seen);
    assert!(effect.is_none(), "{effect:?}");
    assert_eq!(recheck_at, Some(due(&value)));
    seen.resource.now = seen.resource.now.plus_ms(5 * MINUTE);
    assert!(decide(&seen).effect.is_none(), "time alone changes nothing");
}

#[test]
fn a_used_up_limit_is_told_and_heals_with_a_higher_one() {
    let (mut seen, _) = issued();
    let quota = QuotaView {
        id: QuotaId(1),
        max_units: 5,
        used: 4,
        reserved: 0,
        forfeited: 1,
    };
    (edit(&mut seen).quota, edit(&mut seen).max_requests, seen.resource.spec.max_requests) = (Some(quota), Some(5), Some(5));
    says(&verdict(&seen), ConditionType::Ready, "False", Reason::RequestsExhausted);
    says(&verdict(&seen), ConditionType::Exhausted, "True", Reason::RequestsExhausted);
    edit(&mut seen).quota = Some(QuotaView { max_units: 6, ..quota });
    assert!(find(&verdict(&seen).conditions, ConditionType::Exhausted).is_none());
}
