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

    /// kubectl alone, for a cluster that runs already: the one on PATH, or else as [`Programs::find`].
    pub(super) fn kubectl() -> Result<PathBuf, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path)
            .map(|folder| folder.join("kubectl"))
            .find(|kubectl| kubectl.is_file());
        on_path.map_or_else(|| Self::find().map(|programs| programs.kubectl), Ok)
    }

    fn from(assets: Option<&Path>, recipe: &Recipe) -> Result<Self, String> {
        let mut paths = Vec::new();
        for (name, package, optional) in PACKAGES {
            // They are started in a folder of their own.
            let given = assets.map(|folder| std::path::absolute(folder.join(name)).unwrap_or_else(|_| folder.join(name)));
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

/// How the programs of a Go module of ours are built, and where they are kept.
pub(crate) struct Recipe {
    module: PathBuf,
    cache: PathBuf,
    go: OsString,
}

impl Recipe {
    fn of_the_repository() -> Self {
        Self::of("cluster")
    }

    /// That of a module below e2e/, which pins its programs by `tool` lines.
    pub(crate) fn of(module: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e").join(module);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .filter(|folder| !folder.is_empty())
            .map_or_else(home, PathBuf::from);
        Self {
            module: folder,
            cache: cache.join("llm-proxy").join(module),
            go: "go".into(),
        }
    }

    /// Says what to install before anything else is said.
    fn find_go(&self) -> Result<(), String> {
        match Command::new(&self.go).arg("version").output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err("no Go found, which builds the control plane for the operator's tests: \
                 install Go 1.26 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kubectl and \
                 kube-controller-manager"
                    .to_owned())
            }
            Err(error) => Err(format!("go: {error}")),
            Ok(_) => Ok(()),
        }
    }

    /// The folder of this very set of versions.
    fn folder(&self) -> Result<PathBuf, String> {
        let mut hash = Sha256::new();
        for name in ["go.mod", "go.sum", "main.go"] {
            let path = self.module.join(name);
            match fs::read(&path) {
                Ok(content) => hash.update(content),
                // Most modules only name the programs of others.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && name == "main.go" => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.cache.join(hash))
    }

    /// The program out of the cache, where it is put first if need be. Two who want it at once build it once.
    pub(crate) fn build(&self, name: &str, package: &str) -> Result<PathBuf, String> {
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
        self.find_go()?;
        // Of this process alone: a compiler whose process was killed may still be writing its own.
        remove_drafts(&folder);
        let draft = folder.join(format!("{name}.{}.draft", std::process::id()));
        eprintln!("building {name} for the tests, once (some minutes) …");
        let begun = Instant::now();
        let mut go = Command::new(&self.go);
        go.current_dir(&self.module).env("CGO_ENABLED", "0");
        go.args(["build", "-trimpath", "-ldflags", &ldflags()]).arg("-o").arg(&draft).arg(package);
        let status = go.status().map_err(|error| format!("go: {error}"))?;
        if !status.success() {
            return Err(format!("`go build {package}` in {} failed ({status})", self.module.display()));
        }
        fs::rename(&draft, &program).map_err(fault)?;
        eprintln!("built {name} in {} s", begun.elapsed().as_secs());
        Ok(program)
    }
}

/// Removes what a build that was broken off has left. Nobody else builds in this folder: the caller holds its lock.
fn remove_drafts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == "draft") {
            let _ = fs::remove_file(entry.path());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(folder: &Path, go: &str) -> Recipe {
        let module = folder.join("module");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("go.mod"), "module m").unwrap();
        fs::write(module.join("go.sum"), "").unwrap();
        Recipe {
            module,
            cache: folder.join("cache"),
            go: go.into(),
        }
    }

    /// Something that builds as `go` does, and counts how often.
    fn fake_go(folder: &Path) -> String {
        let path = folder.join("go");
        let script = "#!/bin/sh\n[ \"$1\" = version ] && exit\nwhile [ \"$1\" != -o ]; do shift; done\necho built >\"$2\"; echo \"$3\" >>../count\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_program_is_built_once_however_many_want_it_and_again_for_other_versions() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(folder.path(), &fake_go(folder.path()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| Programs::from(None, &recipe).unwrap());
            }
        });
        let count = || fs::read_to_string(folder.path().join("count")).unwrap().lines().count();
        assert_eq!(count(), 4);
        let programs = Programs::from(None, &recipe).unwrap();
        assert!(programs.controller_manager.is_file() && count() == 4);
        fs::write(recipe.module.join("go.sum"), "changed").unwrap();
        assert_ne!(Programs::from(None, &recipe).unwrap().etcd, programs.etcd);
        assert_eq!(count(), 8);
    }

    #[test]
    fn what_a_build_that_was_broken_off_has_left_is_no_program_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(folder.path(), "/bin/false");
        let cache = recipe.folder().unwrap();
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("etcd.1.draft"), "half a prog").unwrap();
        let why = Programs::from(None, &recipe).unwrap_err();
        assert!(why.contains("go build") && !cache.join("etcd").exists(), "{why}");
        assert!(!cache.join("etcd.1.draft").exists());
        let mended = Recipe {
            go: fake_go(folder.path()).into(),
            ..recipe
        };
        let programs = Programs::from(None, &mended).unwrap();
        assert_eq!(fs::read_to_string(programs.etcd).unwrap(), "built\n");
    }

    #[test]
    fn given_programs_are_used_and_only_the_controllers_are_built_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe(folder.path(), &fake_go(folder.path()));
        let assets = folder.path().join("assets");
        fs::create_dir(&assets).unwrap();
        for name in ["etcd", "kube-apiserver"] {
            fs::write(assets.join(name), "").unwrap();
        }
        let missing = Programs::from(Some(&assets), &recipe).unwrap_err();
        assert!(missing.contains("KUBEBUILDER_ASSETS has no") && missing.contains("kubectl"), "{missing}");
        fs::write(assets.join("kubectl"), "").unwrap();
        let programs = Programs::from(Some(&assets), &recipe).unwrap();
        assert_eq!(programs.etcd, assets.join("etcd"));
        assert!(programs.controller_manager.starts_with(&recipe.cache));
    }

    #[test]
    fn without_go_one_line_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let why = Programs::from(None, &recipe(folder.path(), "/nowhere/go")).unwrap_err();
        assert!(
            why.contains("install Go 1.26") && why.contains("KUBEBUILDER_ASSETS") && !why.contains('\n'),
            "{why}"
        );
    }
}
