//! What people see of a story, word for word: `kubectl get -o wide`, the events and `kubectl describe`, with times, uids and keys masked.
//! A change of a message is a change of a file in `snapshots/`, to be read: `INSTA_UPDATE=always` writes them anew.

mod scene;

use std::path::Path;

use serde::Deserialize;

use scene::Scene;

/// What the story puts into Secrets.
const SECRETS: [&str; 3] = ["sk-proj-transcript-0123456789", "sk-mine", "somebody-elses"];

/// What is typed, and what comes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    says: String,
    apply: Option<String>,
    patch: Option<(String, String)>,
    delete: Option<String>,
    /// So many hours of the database's clock pass.
    hours: Option<i64>,
    /// The database's Secret is applied.
    #[serde(default)]
    database: bool,
    /// A pod of the fleet starts.
    #[serde(default)]
    pod: bool,
    /// The API server does not take the patch.
    #[serde(default)]
    refused: bool,
    #[serde(default)]
    stands: Vec<String>,
    #[serde(default)]
    events: usize,
    /// The name of the snapshot in which everything is described after this step.
    describe: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_shows_of_a_story_tells_it_in_order() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/transcript/story.yaml");
    let steps: Vec<Step> = serde_yaml::from_str(&std::fs::read_to_string(script).unwrap()).unwrap();
    let mut scene = Scene::begin().await;
    let mut pod = None;
    for step in steps {
        if let Some((object, patch)) = &step.patch {
            if step.refused {
                scene.is_refused(&step.says, object, patch).await;
                continue;
            }
            scene.change(object, patch).await;
        }
        if let Some(manifests) = &step.apply {
            scene.apply(manifests).await;
        }
        if let Some(object) = &step.delete {
            scene.delete(object).await;
        }
        if let Some(hours) = step.hours {
            scene.later(hours).await;
        }
        if step.database {
            scene.apply(&scene.installation.database_secret()).await;
        }
        if step.pod {
            pod = Some(scene.pod().await);
        }
        scene.stands(&step.stands).await;
        scene.shows(&step.says, step.events).await;
        if let Some(name) = step.describe {
            let described = scene.described().await;
            assert!(!SECRETS.iter().any(|secret| described.contains(secret)), "a secret is shown: {described}");
            insta::assert_snapshot!(format!("described_{name}"), described);
        }
    }
    assert!(
        !SECRETS.iter().any(|secret| scene.story().contains(secret)),
        "a secret is shown: {}",
        scene.story()
    );
    insta::assert_snapshot!("story", scene.story());
    assert!(pod.is_some_and(|mut pod| pod.runs()), "the pod served to the end");
}
