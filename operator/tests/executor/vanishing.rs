//! Broken, renamed and vanished manifests: what is a deletion and what is not.

use super::*;

#[tokio::test]
async fn a_broken_manifest_is_told_and_the_last_good_one_goes_on_serving() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    let good = token("web", "maxRequests: 5");
    for (bad, field) in [
        (good.replace("ttl: 30m", "tttl: 30m"), "spec.tttl"),
        (good.replace("maxRequests: 5", "maxRequests: [5]"), "spec.maxRequests"),
        (good.replace("spec:", "spec: ["), "broken YAML"),
        (good.replace("kind: WitheringToken", "kind: WitheringTokne"), "kind"),
        (format!("{good}---\n{good}"), "metadata.name"),
        (String::new(), "it is empty"),
    ] {
        home.write("token.yaml", &bad);
        let report = home.settled().await;
        let told: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
        assert!(
            !told.is_empty() && told.iter().all(|fault| fault.contains("token.yaml") && fault.contains(field)),
            "{field}: {told:?}"
        );
        assert!(home.serves(&value).await, "{field}");
        assert_eq!(home.ready("web").await, "False InvalidSpec", "{field}");
    }
    home.write("token.yaml", &good);
    assert!(home.settled().await.faults.is_empty());
    assert_eq!(home.ready("web").await, "True Issued");
    assert!(home.value("web").unwrap() == value && home.serves(&value).await);
}

#[tokio::test]
async fn a_bad_new_manifest_holds_back_only_itself() {
    let mut home = Home::new().await;
    home.write("a.yaml", &token("a", ""));
    home.write("b.yaml", &token("b", "").replace("ttl: 30m", "ttl: never"));
    assert_eq!(home.settled().await.objects, 3);
    assert!(home.value("a").is_some() && home.object("WitheringToken", "b").await.is_none());
}

#[tokio::test]
async fn a_renamed_file_changes_nothing() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    let mut process = home.process();
    home.settle(&mut process).await;
    fs::rename(home.manifests().join("token.yaml"), home.manifests().join("zz.yaml")).unwrap();
    home.settle(&mut process).await;
    assert!(home.serves(&value).await && home.value("web").unwrap() == value);
    assert!(home.object("WitheringToken", "web").await.unwrap().source.ends_with("zz.yaml"));
}

#[tokio::test]
async fn a_vanished_or_emptied_folder_takes_nothing_away() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    let aside = home.manifests().with_file_name("aside");
    fs::rename(home.manifests(), &aside).unwrap();
    home.settled().await;
    assert!(home.serves(&value).await);
    assert_eq!(home.condition("WitheringToken", "web", ConditionType::Accepted).await.1, "SourceMissing");
    fs::create_dir(home.manifests()).unwrap();
    home.settled().await;
    assert!(home.serves(&value).await);
    fs::remove_dir(home.manifests()).unwrap();
    fs::rename(&aside, home.manifests()).unwrap();
    home.settled().await;
    assert_eq!(home.condition("WitheringToken", "web", ConditionType::Accepted).await.1, "Accepted");
}

#[tokio::test]
async fn a_glance_without_the_file_is_no_deletion_but_two_are() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    let mut process = home.process();
    home.settle(&mut process).await;
    home.remove("token.yaml");
    home.pass(&mut process).await;
    assert!(home.serves(&value).await && home.env_path("web").exists());
    home.pass(&mut process).await;
    assert!(!home.serves(&value).await && !home.env_path("web").exists());
    assert!(home.object("WitheringToken", "web").await.is_none());
}

#[tokio::test]
async fn a_deleted_token_that_comes_back_is_another_one() {
    let mut home = issued().await;
    let (old, uid) = (home.value("web").unwrap(), home.object("WitheringToken", "web").await.unwrap().uid);
    home.remove("token.yaml");
    home.settled().await;
    home.write("token.yaml", &token("web", ""));
    home.settled().await;
    assert!(home.object("WitheringToken", "web").await.unwrap().uid != uid);
    assert_eq!(home.token("web").await.revisions[0].revision, 1);
    assert!(!home.serves(&old).await && home.serves(&home.value("web").unwrap()).await);
}

#[tokio::test]
async fn a_fleet_whose_manifest_is_gone_is_served_as_it_was() {
    let mut home = issued().await;
    home.remove("fleet.yaml");
    home.settled().await;
    assert!(home.serves(&home.value("web").unwrap()).await);
    assert_eq!(home.condition("ProxyConfig", "main", ConditionType::Accepted).await.1, "SourceMissing");
    assert_eq!(home.ready("web").await, "True Issued");
}

#[tokio::test]
async fn a_key_piped_in_once_is_sealed_and_serves_after_a_restart_without_it() {
    let mut home = Home::new().await;
    let credentials = "{name: openai, credentials: {secretRef: {name: openai}}}";
    home.write("project.yaml", &PROJECT.replace("{name: echo}", credentials));
    home.write("token.yaml", &token("web", ""));
    let piped = "apiVersion: v1\nkind: Secret\nmetadata: {name: openai}\nstringData: {api-key: sk-canary}\n";
    home.stdin = Some(piped.to_owned());
    home.settled().await;
    let value = home.value("web").expect("a key");
    assert_eq!(home.condition("LLMProject", "shop", ConditionType::Ready).await.0, "True");

    home.stdin = None;
    home.reopen().await;
    let report = home.settled().await;
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    use secrecy::ExposeSecret;
    let provider = home.grant(&value).await.unwrap().provider.unwrap();
    assert_eq!(provider.key.unwrap().expose_secret(), "sk-canary");
    assert_eq!(
        home.condition("LLMProject", "shop", ConditionType::ResolvedRefs).await.1,
        "SecretNotFound"
    );
    assert!(home.fleet.file_objects().await.unwrap().iter().all(|object| object.key.kind != "Secret"));
    let data = home.env_path("web").parent().unwrap().parent().unwrap().to_owned();
    for file in fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
    {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !bytes.windows(9).any(|window| window == b"sk-canary"),
            "{} holds the key in clear",
            file.display()
        );
    }
}

#[tokio::test]
async fn an_orphans_file_stays_and_works_to_its_end() {
    let mut home = issued().await;
    home.write("token.yaml", &token("web", "maxRequests: 5\n  deletionPolicy: Orphan"));
    home.settled().await;
    let value = home.value("web").unwrap();
    home.remove("token.yaml");
    home.settled().await;
    assert!(home.object("WitheringToken", "web").await.is_none());
    assert!(home.serves(&value).await && home.value("web").unwrap() == value);
    home.advance(31 * MINUTE).await;
    home.settled().await;
    assert!(
        !home.serves(&value).await && home.value("web").unwrap() == value,
        "it is nobody's to renew"
    );
    // Another token of that name does not take what is not its own.
    home.write("token.yaml", &token("web", ""));
    home.settled().await;
    assert_eq!(home.ready("web").await, "False SecretConflict");
}

#[tokio::test]
async fn a_deleted_projects_rows_stay_or_go_as_it_says() {
    for (policy, left) in [("Retain", 1), ("Delete", 0)] {
        let mut home = issued().await;
        let project = fs::read_to_string(home.manifests().join("project.yaml")).unwrap();
        home.write("project.yaml", &format!("{}\n  deletionPolicy: {policy}\n", project.trim_end()));
        home.settled().await;
        let value = home.value("web").unwrap();
        home.remove("project.yaml");
        home.settled().await;
        assert!(!home.serves(&value).await, "{policy}");
        assert_eq!(home.fleet.projects().await.unwrap().len(), left, "{policy}");
        assert_eq!(home.fleet.tokens().await.unwrap().len(), left, "{policy}");
        assert!(home.object("LLMProject", "shop").await.is_none(), "{policy}");
    }
}
