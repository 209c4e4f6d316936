//! The charts as people use them: Helm and kube-score, built once from the Go modules that pin them. It refuses to know what the charts hold.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::cluster::Answer;
use crate::cluster::programs::Recipe;

/// A module below e2e/, whose program has its name, and the program's package.
const HELM: (&str, &str) = ("helm", "helm.sh/helm/v4/cmd/helm");
const KUBE_SCORE: (&str, &str) = ("kube-score", "github.com/zegl/kube-score/cmd/kube-score");

/// The folder of a chart.
#[must_use]
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts").join(name)
}

/// Builds Helm and kube-score, if they are not built yet (3 minutes and 40 s on two cores).
///
/// # Errors
/// One line that says what to install.
pub fn build() -> Result<(), String> {
    for (module, package) in [HELM, KUBE_SCORE] {
        Recipe::of(module).build(module, package)?;
    }
    Ok(())
}

/// Helm, with everything that it remembers in `home`.
///
/// # Panics
/// In one line, if it cannot be built.
#[must_use]
pub fn helm(home: &Path) -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(BUILT.get_or_init(|| built(HELM)));
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
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| built(KUBE_SCORE)))
}

fn built((module, package): (&str, &str)) -> PathBuf {
    Recipe::of(module).build(module, package).unwrap_or_else(|why| panic!("{why}"))
}
