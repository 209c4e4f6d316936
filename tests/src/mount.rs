//! Small file systems that a test may fill or write-protect. They need root; without it the test says loudly that it did not run, and fails in CI.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs of its own, unmounted when it is dropped.
#[derive(Debug)]
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// Mounts one of `size` (as in `8m`). `None`: this process may not mount, and the test `name` was told to the reader as skipped.
    ///
    /// # Panics
    /// In CI (`CI` is set), where nothing may be skipped.
    #[must_use]
    pub fn mount(name: &str, size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = format!("size={size},mode=700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { dir }),
            refused => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "{name} needs to mount a tmpfs, and CI skips nothing: {refused:?}"
                );
                eprintln!("SKIPPED {name}: it needs to mount a tmpfs (run it as root)");
                None
            }
        }
    }

    /// The mount point.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes it read-only, or writable again.
    pub fn set_read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let output = Command::new("mount").args(["-o", options]).arg(self.path()).output().expect("mount runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Fills what is free with the file `ballast`.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.path().join("ballast")).expect("a file on the new file system");
        for block in [vec![b'x'; 1 << 16], vec![b'x'; 1]] {
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// Deletes that file.
    pub fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("the ballast is deleted");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is just being killed may still have a file open.
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}
