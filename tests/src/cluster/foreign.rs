//! A cluster that is there already: KUBECONFIG leads to it, and USE_EXISTING_CLUSTER=true allows to use it. It refuses to start or stop anything.
//!
//! The users of the tests are played by impersonation, so whoever the kubeconfig names has to be allowed that (and to install definitions).

use std::path::{Path, PathBuf};

use super::keeper::RunFolder;
use super::programs::Programs;
use super::{Cluster, Options, User, install};

/// On every namespace that a test makes, so that they can be found again.
pub(super) const LABEL: &str = "llm-proxy.dev/test";

/// The kubeconfig, if both variables are set.
///
/// # Panics
/// In one line, if a cluster is asked for and not named.
pub(super) fn configured() -> Option<PathBuf> {
    let wanted = std::env::var("USE_EXISTING_CLUSTER").is_ok_and(|value| value == "true");
    let path = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    if !wanted {
        if path.is_some() {
            eprintln!("KUBECONFIG is not used without USE_EXISTING_CLUSTER=true: the tests start a control plane of their own");
        }
        return None;
    }
    Some(path.unwrap_or_else(|| panic!("USE_EXISTING_CLUSTER=true wants a cluster: set KUBECONFIG to the file that leads to it")))
}

impl Cluster {
    /// Installs definitions and rights on it.
    ///
    /// # Panics
    /// If the kubeconfig does not allow that.
    pub(super) fn foreign(kubeconfig: &Path) -> Self {
        let kubectl = Programs::kubectl().unwrap_or_else(|why| panic!("{why}"));
        let cluster = Self {
            controllers: None,
            api_server: None,
            _etcd: None,
            folder: RunFolder::make(),
            programs: Programs {
                etcd: PathBuf::new(),
                api_server: PathBuf::new(),
                controller_manager: PathBuf::new(),
                kubectl,
            },
            options: Options::default(),
            api_address: None,
            etcd_address: None,
            secret: String::new(),
        };
        for user in User::ALL {
            let text = std::fs::read_to_string(kubeconfig).unwrap_or_else(|error| panic!("{}: {error}", kubeconfig.display()));
            let mut document: serde_yaml::Value = serde_yaml::from_str(&text).expect("a kubeconfig");
            if user != User::Admin {
                play(&mut document, user.name());
            }
            let text = serde_yaml::to_string(&document).expect("YAML");
            std::fs::write(cluster.kubeconfig(user), text).expect("a writable run folder");
        }
        eprintln!(
            "using the cluster of {}; the tests' namespaces have the label {LABEL}",
            kubeconfig.display()
        );
        cluster.with_admin(|client| async move { install::install(&client).await });
        cluster
    }
}

/// Makes every user of a kubeconfig act as another one. Paths in it stay what they are, so they have to be absolute.
fn play(document: &mut serde_yaml::Value, name: &str) {
    let users = document.get_mut("users").and_then(serde_yaml::Value::as_sequence_mut);
    for user in users.into_iter().flatten() {
        if let Some(user) = user.get_mut("user").and_then(serde_yaml::Value::as_mapping_mut) {
            user.insert("as".into(), name.into());
        }
    }
}
