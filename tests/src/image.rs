//! Images without a container engine: one binary with the shared libraries that it was linked with, as an archive that `docker load`,
//! `ctr images import` and `skopeo` take. It refuses to know registries.
//!
//! The same binary gives the same bytes: entries are sorted, times are zero, owners are root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

mod archive;

use archive::Archive;

/// Who the binary runs as; the same number stands in the Dockerfile and in the chart.
pub const USER: u32 = 65532;

/// Where Debian keeps the certificate authorities, and where the binary looks for them.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Recipe<'a> {
    /// The binary on this machine.
    pub binary: &'a Path,
    /// Where it stands in the image.
    pub path: &'a str,
    /// Repository and tag, such as `llm-proxy:0.1.0`.
    pub name: &'a str,
    /// What the entry point is given by default.
    pub arguments: &'a [&'a str],
}

impl<'a> Recipe<'a> {
    /// The image of llm-proxy itself, under a name of one's own.
    #[must_use]
    pub fn of_llm_proxy(binary: &'a Path, name: &'a str) -> Self {
        Self {
            binary,
            path: "/usr/bin/llm-proxy",
            name,
            arguments: &["--help"],
        }
    }
}

/// An image that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The archive.
    pub file: PathBuf,
    /// Repository and tag.
    pub name: String,
    /// The digest of its configuration, `sha256:…`: what container runtimes call the image id.
    pub id: String,
    /// Bytes of the files in it.
    pub size: u64,
}

/// Writes an image.
///
/// # Errors
/// One line: the binary is missing or `ldd` does not understand it, there are no certificate authorities, or the file cannot be written.
pub fn write(recipe: &Recipe<'_>, file: &Path) -> Result<Image, String> {
    let layer = layer(recipe)?;
    let size = layer.content;
    let layer = layer.finish();
    let layer_digest = hex(&layer);
    let config = config(recipe, &layer_digest).to_string().into_bytes();
    let id = hex(&config);
    let manifest = json!([{ "Config": format!("{id}.json"), "RepoTags": [recipe.name], "Layers": [format!("{layer_digest}/layer.tar")] }]);
    let mut image = Archive::new();
    image.file(&format!("{id}.json"), &config, 0o644);
    image.folder(&layer_digest, 0o755);
    image.file(&format!("{layer_digest}/layer.tar"), &layer, 0o644);
    image.file("manifest.json", manifest.to_string().as_bytes(), 0o644);
    fs::write(file, image.finish()).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Image {
        file: file.to_owned(),
        name: recipe.name.to_owned(),
        id: format!("sha256:{id}"),
        size,
    })
}

/// The files: binary, loader and libraries where the binary looks for them, certificate authorities, one user, a folder for temporary files.
fn layer(recipe: &Recipe<'_>) -> Result<Archive, String> {
    let read = |path: &str| fs::read(path).map_err(|error| format!("{path}: {error}"));
    let mut files: BTreeMap<String, (Vec<u8>, u32)> = BTreeMap::new();
    for library in libraries(recipe.binary)? {
        files.insert(library.clone(), (read(&library)?, 0o755));
    }
    files.insert(recipe.path.to_owned(), (read(&recipe.binary.to_string_lossy())?, 0o755));
    let authorities = read(AUTHORITIES).map_err(|why| format!("{why}: install ca-certificates"))?;
    files.insert(AUTHORITIES.to_owned(), (authorities, 0o644));
    let user = format!("llm-proxy:x:{USER}:{USER}::/nonexistent:/nonexistent\n");
    files.insert("/etc/passwd".to_owned(), (user.into_bytes(), 0o644));
    files.insert("/etc/group".to_owned(), (format!("llm-proxy:x:{USER}:\n").into_bytes(), 0o644));

    let mut folders: BTreeMap<String, u32> = BTreeMap::from([("tmp".to_owned(), 0o1777)]);
    for path in files.keys() {
        let parents = Path::new(path.trim_start_matches('/')).ancestors().skip(1);
        for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
            folders.insert(parent.to_string_lossy().into_owned(), 0o755);
        }
    }
    let mut layer = Archive::new();
    for (path, mode) in &folders {
        layer.folder(path, *mode);
    }
    for (path, (content, mode)) in &files {
        layer.file(path.trim_start_matches('/'), content, *mode);
    }
    Ok(layer)
}

/// The loader and the shared libraries of a binary, as absolute paths.
fn libraries(binary: &Path) -> Result<Vec<String>, String> {
    let output = Command::new("ldd")
        .arg(binary)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("ldd: {error}"))?;
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if error.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() || said.contains("not found") {
        return Err(format!("ldd {}: {}{}", binary.display(), said.trim(), error.trim()));
    }
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(said.lines().filter_map(path).collect())
}

fn config(recipe: &Recipe<'_>, layer_digest: &str) -> Value {
    json!({
        "architecture": match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": ["PATH=/usr/bin:/bin"],
            "Entrypoint": [recipe.path],
            "Cmd": recipe.arguments,
            "ExposedPorts": { "8080/tcp": {}, "8081/tcp": {} },
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "llm-proxy",
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z" }],
    })
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(file: &Path) -> Image {
        let recipe = Recipe {
            binary: Path::new("/bin/sleep"),
            path: "/bin/sleep",
            name: "sleep:1",
            arguments: &["infinity"],
        };
        write(&recipe, file).unwrap()
    }

    fn tar(args: &[&str]) -> Vec<u8> {
        let output = Command::new("tar").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn an_image_is_the_same_bytes_every_time_and_holds_binary_libraries_authorities_and_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
        let image = sleep(&one);
        assert_eq!(sleep(&two).id, image.id);
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
        let archive = one.to_str().unwrap();
        let manifest: Value = serde_json::from_slice(&tar(&["-xOf", archive, "manifest.json"])).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["sleep:1"]));
        let config = tar(&["-xOf", archive, manifest[0]["Config"].as_str().unwrap()]);
        assert_eq!(format!("sha256:{}", hex(&config)), image.id);
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        let layer = tar(&["-xOf", archive, manifest[0]["Layers"][0].as_str().unwrap()]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", hex(&layer))]));
        let unpacked = folder.path().join("layer.tar");
        fs::write(&unpacked, layer).unwrap();
        let listing = String::from_utf8(tar(&["-tf", unpacked.to_str().unwrap()])).unwrap();
        for needle in [
            "bin/sleep\n",
            "libc.so.6\n",
            "ld-linux",
            "etc/passwd\n",
            "etc/ssl/certs/ca-certificates.crt\n",
            "tmp/\n",
        ] {
            assert!(listing.contains(needle), "{needle} is not in\n{listing}");
        }
        assert!(!listing.contains("bin/sh"), "{listing}");
    }

    #[test]
    fn what_cannot_be_packed_is_one_line() {
        let recipe = Recipe {
            binary: Path::new("/nonexistent"),
            path: "/usr/bin/llm-proxy",
            name: "x:1",
            arguments: &[],
        };
        let why = write(&recipe, Path::new("/nonexistent/x.tar")).unwrap_err();
        assert!(why.contains("/nonexistent") && !why.contains('\n'), "{why}");
    }
}
