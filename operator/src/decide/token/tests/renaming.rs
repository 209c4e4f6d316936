//! A token that wants another Secret name.

use super::*;

fn renamed() -> (TokenObserved, TokenValue) {
    let (mut seen, value) = issued();
    seen.resource.spec.secret = Some(TokenSecret {
        name: Some("other".to_owned()),
        formats: None,
    });
    seen.secret_name = "other".to_owned();
    (seen.former, seen.secret) = (Some(seen.secret.clone()), SecretSeen::Absent);
    (seen, value)
}

#[test]
fn the_value_is_written_under_the_new_name_before_the_old_one_goes() {
    let (mut seen, value) = renamed();
    let write = written(effect(&seen));
    assert!(write.value == value && write.name == "other" && write.expect.is_none());

    seen.secret = holding(&value);
    assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "web"));

    seen.former = Some(SecretSeen::Absent);
    assert_eq!(changed(effect(&seen)).secret_name.as_deref(), Some("other"));
}

#[test]
fn a_new_name_that_is_not_to_be_had_stops_it_and_the_old_secret_goes_on_being_renewed() {
    let (seen, value) = renamed();
    let foreign = TokenObserved {
        secret: altered(),
        ..seen.clone()
    };
    says(&verdict(&foreign), ConditionType::Delivered, "False", Reason::SecretConflict);
    let taken = TokenObserved {
        claim: SecretClaim::Taken("wanted twice".to_owned()),
        ..seen
    };
    says(&verdict(&taken), ConditionType::Accepted, "False", Reason::SecretConflict);
    for mut seen in [foreign, taken] {
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::SecretConflict);
        assert_eq!(verdict(&seen).secret_name.as_deref(), Some("web"));
        seen.resource.now = due(&value);
        assert_eq!(inserted(effect_after_events(&seen).1).secret_name, "web");
        seen.former = Some(SecretSeen::Absent);
        assert_eq!(inserted(effect_after_events(&seen).1).secret_name, "web");
    }
}

#[test]
fn an_old_file_that_holds_something_else_goes_and_a_new_value_follows() {
    let (mut seen, _) = renamed();
    seen.former = Some(altered());
    assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "web"));
    seen.former = Some(SecretSeen::Absent);
    assert_eq!(changed(effect(&seen)).secret_name.as_deref(), Some("other"));
}
