//! The tar format (POSIX ustar), as much of it as an image needs: folders and files of root, without times. It refuses to know what it packs.

/// Everything in a tar file is padded to blocks of so many bytes.
const BLOCK: usize = 512;

/// A tar file in the making.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// Bytes of the files themselves.
    pub(super) content: u64,
}

impl Archive {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a folder, by its relative path.
    pub(super) fn folder(&mut self, path: &str, mode: u32) {
        self.header(&format!("{path}/"), mode, 0, b'5');
    }

    /// Adds a file, by its relative path.
    pub(super) fn file(&mut self, path: &str, content: &[u8], mode: u32) {
        self.header(path, mode, content.len(), b'0');
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self.content += content.len() as u64;
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8) {
        assert!(path.len() <= 100, "a longer path needs an extension of the format: {path}");
        let mut block = [0_u8; BLOCK];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"00000000000");
        // The checksum is taken with its own field blank.
        put(148, b"        ");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.bytes.extend_from_slice(&block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn tar_lists_and_gives_back_what_was_packed() {
        let mut archive = Archive::new();
        archive.folder("a", 0o755);
        archive.folder("tmp", 0o1777);
        archive.file("a/b", b"hello", 0o644);
        archive.file("a/exactly-a-block", &[7; BLOCK], 0o755);
        assert_eq!(archive.content, 5 + BLOCK as u64);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.tar"), archive.finish()).unwrap();
        let tar = |args: &[&str]| {
            let output = Command::new("tar").args(args).current_dir(&folder).env("TZ", "UTC").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let listing = tar(&["--numeric-owner", "-tvf", "x.tar"]);
        let modes_and_names: Vec<String> = listing
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .map(|words| format!("{} {} {} {}", words[0], words[1], words[2], words[5]))
            .collect();
        assert_eq!(
            modes_and_names,
            [
                "drwxr-xr-x 0/0 0 a/",
                "drwxrwxrwt 0/0 0 tmp/",
                "-rw-r--r-- 0/0 5 a/b",
                "-rwxr-xr-x 0/0 512 a/exactly-a-block"
            ]
        );
        assert!(listing.contains("1970-01-01 00:00"));
        tar(&["-xf", "x.tar", "a/exactly-a-block"]);
        assert_eq!(std::fs::read(folder.path().join("a/exactly-a-block")).unwrap(), [7; BLOCK]);
    }
}
