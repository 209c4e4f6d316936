//! What an engine is given to build the image from: the repository without what .dockerignore names. It refuses to know how an image is made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn what_the_image_is_built_from_is_a_whole_workspace() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let ignored = fs::read_to_string(repository.join(".dockerignore")).unwrap();
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(ignored.contains(&"target"), "{ignored:?}");
    assert!(
        ignored.iter().all(|name| !name.contains(['*', '/', '!'])),
        "this test reads names alone: {ignored:?}"
    );
    let context = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(repository).unwrap() {
        let name = entry.unwrap().file_name();
        if !ignored.contains(&name.to_str().unwrap()) {
            symlink(repository.join(&name), context.path().join(&name)).unwrap();
        }
    }
    // As the Dockerfile does; a member that is missing ends it at once, and so does a lock file that is not up to date.
    let dockerfile = fs::read_to_string(repository.join("Dockerfile")).unwrap();
    assert!(dockerfile.contains("cargo build --release --locked --package llm-proxy"));
    let read = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--locked", "--offline", "--format-version=1"])
        .current_dir(context.path())
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(context.path().join("migrations").exists(), "the store compiles them in");
}
