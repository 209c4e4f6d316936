//! The manifests of a test: one fleet, projects, tokens and Secrets, as YAML files in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

/// The namespace of everything here.
pub const NAMESPACE: &str = "team";

/// The name of the one ProxyConfig.
pub const FLEET: &str = "main";

/// The name of the one provider.
pub const PROVIDER: &str = "upstream";

/// A ProxyConfig whose provider speaks OpenAI at `base_url`.
#[must_use]
pub fn fleet(base_url: &str) -> String {
    let provider = format!("{{name: {PROVIDER}, api: OpenAI, baseURL: \"{base_url}\"}}");
    document("ProxyConfig", FLEET, &format!("database: {{sqlite: {{}}}}\n  providers: [{provider}]"))
}

/// A ProxyConfig whose provider is the built-in Echo.
#[must_use]
pub fn echo_fleet() -> String {
    document(
        "ProxyConfig",
        FLEET,
        &format!("database: {{sqlite: {{}}}}\n  providers: [{{name: {PROVIDER}, api: Echo}}]"),
    )
}

/// A project whose credential is the Secret `<name>-key`. `more` are further lines of its spec (two spaces in front of each).
#[must_use]
pub fn project(name: &str, more: &str) -> String {
    let credentials = format!("credentials: {{secretRef: {{name: {name}-key, key: api-key}}}}");
    document(
        "LLMProject",
        name,
        &format!("proxyRef: {{name: {FLEET}}}\n  providers: [{{name: {PROVIDER}, {credentials}}}]\n{more}"),
    )
}

/// A project on an Echo fleet: it needs no credential.
#[must_use]
pub fn echo_project(name: &str) -> String {
    document(
        "LLMProject",
        name,
        &format!("proxyRef: {{name: {FLEET}}}\n  providers: [{{name: {PROVIDER}}}]"),
    )
}

/// The Secret that [`project`] refers to.
#[must_use]
pub fn key_secret(project: &str, key: &str) -> String {
    let quoted = serde_json::Value::from(key);
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {project}-key, namespace: {NAMESPACE}}}\nstringData:\n  api-key: {quoted}\n")
}

/// A token of a project. `more` are further lines of its spec (two spaces in front of each).
#[must_use]
pub fn token(name: &str, project: &str, more: &str) -> String {
    document("WitheringToken", name, &format!("projectRef: {{name: {project}}}\n{more}"))
}

/// The line `maxRequests` of a token's spec.
#[must_use]
pub fn max_requests(limit: u64) -> String {
    format!("  maxRequests: {limit}")
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec:\n  {}\n",
        spec.trim_end()
    )
}

/// A folder of manifest files. Cloning shares it; it is removed with the last clone.
#[derive(Clone, Debug)]
pub struct Folder {
    // Kept apart from `path`, so that a test may remove or rename the folder itself.
    _parent: Arc<TempDir>,
    path: PathBuf,
}

impl Folder {
    /// An empty one.
    #[must_use]
    pub fn empty() -> Self {
        let parent = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let path = parent.path().join("manifests");
        fs::create_dir(&path).expect("a folder for the manifests");
        Self { _parent: parent, path }
    }

    /// A fleet on `base_url`, the project `app` with the credential `key`, and tokens given as (name, further lines of the spec).
    #[must_use]
    pub fn with_tokens(base_url: &str, key: &str, tokens: &[(&str, &str)]) -> Self {
        let folder = Self::empty();
        folder.put("fleet.yaml", &fleet(base_url));
        folder.put("project.yaml", &format!("{}---\n{}", project("app", ""), key_secret("app", key)));
        for (name, more) in tokens {
            folder.put(&format!("token-{name}.yaml"), &token(name, "app", more));
        }
        folder
    }

    /// The Echo fleet, the project `app`, and tokens given as (name, further lines of the spec).
    #[must_use]
    pub fn with_echo(tokens: &[(&str, &str)]) -> Self {
        let folder = Self::empty();
        folder.put("fleet.yaml", &echo_fleet());
        folder.put("project.yaml", &echo_project("app"));
        for (name, more) in tokens {
            folder.put(&format!("token-{name}.yaml"), &token(name, "app", more));
        }
        folder
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file as a careful editor does: whole, by rename.
    pub fn put(&self, name: &str, text: &str) {
        let draft = self.path.with_extension("draft");
        fs::write(&draft, text).expect("a manifest is written");
        fs::rename(&draft, self.file(name)).expect("a manifest is put in place");
    }

    /// Deletes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("a manifest is deleted");
    }
}
