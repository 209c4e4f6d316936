//! The charts as people use them: Helm and kube-score, built once from the Go modules that pin them. It refuses to know what the charts hold.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::cluster::Answer;
use crate::cluster::programs::Recipe;

/// The folder of a chart.
#[must_use]
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts").join(name)
}

/// Helm, with everything that it remembers in `home`.
///
/// # Panics
/// In one line, if it cannot be built.
#[must_use]
pub fn helm(home: &Path) -> Command {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(HELM.get_or_init(|| built("helm", "helm", "helm.sh/helm/v4/cmd/helm")));
    command
        .env("HOME", home)
        .env_remove("HELM_NAMESPACE")
        .env_remove("HELM_DEBUG")
        .stdin(Stdio::null());
    for (name, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
        command.env(name, home.join(".helm").join(folder));
    }
    command
}

/// `helm template RELEASE CHART` in a namespace, with further arguments.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn render(chart_name: &str, namespace: &str, args: &[&str]) -> Answer {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = helm(home.path());
    command
        .args(["template", "release"])
        .arg(chart(chart_name))
        .args(["--namespace", namespace])
        .args(args);
    command.output().expect("helm runs").into()
}

/// kube-score.
///
/// # Panics
/// In one line, if it cannot be built.
#[must_use]
pub fn kube_score() -> Command {
    static KUBE_SCORE: OnceLock<PathBuf> = OnceLock::new();
    Command::new(KUBE_SCORE.get_or_init(|| built("kube-score", "kube-score", "github.com/zegl/kube-score/cmd/kube-score")))
}

fn built(module: &str, name: &str, package: &str) -> PathBuf {
    Recipe::of(module).build(name, package).unwrap_or_else(|why| panic!("{why}"))
}
