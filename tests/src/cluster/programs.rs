//! The programs of a control plane: those that KUBEBUILDER_ASSETS names, or our own, built once from the Go modules that e2e/cluster pins.
//! It refuses to know how they are started.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

/// What goes into a binary besides its module; without a version the API server calls itself v0.0.0 and clients take it for an old one.
const KUBERNETES: &str = "v1.36.3";

/// Name of the program, its package, and whether an installation that brings the others may leave it out.
const PACKAGES: [(&str, &str, bool); 4] = [
    ("etcd", "go.etcd.io/etcd/server/v3", false),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", false),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl", false),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", true),
];

/// Where each program lies.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The store behind the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub api_server: PathBuf,
    /// The controllers of Kubernetes itself: garbage collector, namespaces, Deployments.
    pub controller_manager: PathBuf,
    /// The command line.
    pub kubectl: PathBuf,
}

impl Programs {
    /// Finds them, or builds what is missing (7 minutes on two cores the first time; progress goes to standard error). A process looks once.
    ///
    /// # Errors
    /// One line that says what to install.
    pub fn find() -> Result<Self, String> {
        static FOUND: OnceLock<Result<Programs, String>> = OnceLock::new();
        FOUND
            .get_or_init(|| {
                let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
                Self::from(assets.map(PathBuf::from).as_deref(), &Recipe::of_the_repository())
            })
            .clone()
    }

    fn from(assets: Option<&Path>, recipe: &Recipe) -> Result<Self, String> {
        let mut paths = Vec::new();
        for (name, package, optional) in PACKAGES {
            let given = assets.map(|folder| folder.join(name));
            paths.push(match given {
                Some(path) if path.is_file() => path,
                Some(path) if !optional => return Err(format!("KUBEBUILDER_ASSETS has no {}: unset it to have it built", path.display())),
                _ => recipe.build(name, package)?,
            });
        }
        let [etcd, api_server, kubectl, controller_manager] = <[PathBuf; 4]>::try_from(paths).expect("one path per package");
        Ok(Self {
            etcd,
            api_server,
            controller_manager,
            kubectl,
        })
    }
}

/// How the programs are built, and where they are kept.
struct Recipe {
    module: PathBuf,
    cache: PathBuf,
    go: OsString,
}

impl Recipe {
    fn of_the_repository() -> Self {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/cluster");
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .filter(|folder| !folder.is_empty())
            .map_or_else(home, PathBuf::from);
        Self {
            module,
            cache: cache.join("llm-proxy/cluster"),
            go: "go".into(),
        }
    }

    /// The folder of this very set of versions.
    fn folder(&self) -> Result<PathBuf, String> {
        let mut hash = Sha256::new();
        for name in ["go.mod", "go.sum"] {
            let path = self.module.join(name);
            hash.update(fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.cache.join(hash))
    }

    /// The program out of the cache, where it is put first if need be. Two who want it at once build it once.
    fn build(&self, name: &str, package: &str) -> Result<PathBuf, String> {
        let folder = self.folder()?;
        let program = folder.join(name);
        if program.is_file() {
            return Ok(program);
        }
        let fault = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(fault)?;
        let lock = File::create(folder.join("lock")).map_err(fault)?;
        lock.lock().map_err(fault)?;
        if program.is_file() {
            return Ok(program);
        }
        let draft = folder.join(format!("{name}.draft"));
        eprintln!("building {name} for the tests, once (some minutes) …");
        let begun = Instant::now();
        let mut go = Command::new(&self.go);
        go.current_dir(&self.module).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
        go.args(["build", "-trimpath", "-ldflags", &ldflags()]).arg("-o").arg(&draft).arg(package);
        let status = go.status().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                "the tests of the operator need Go 1.26 or newer to build a control plane: install it from https://go.dev/dl, or set \
                 KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kubectl"
                    .to_owned()
            }
            _ => format!("go: {error}"),
        })?;
        if !status.success() {
            return Err(format!("`go build {package}` in {} failed ({status})", self.module.display()));
        }
        fs::rename(&draft, &program).map_err(fault)?;
        eprintln!("built {name} in {} s", begun.elapsed().as_secs());
        Ok(program)
    }
}

fn ldflags() -> String {
    let mut numbers = KUBERNETES.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let version = "k8s.io/component-base/version";
    format!(
        "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor} \
         -X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}"
    )
}
