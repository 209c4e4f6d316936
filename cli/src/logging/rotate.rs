//! A log file that starts anew when it is full: `NAME` is the current one, `NAME.1` the one before, up to `NAME.<backups>`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::queue::Sink;

/// The current file and when it is full.
#[derive(Debug)]
pub(crate) struct RotatedFile {
    path: PathBuf,
    file: File,
    written: u64,
    max_bytes: u64,
    backups: u32,
}

impl RotatedFile {
    /// Appends to `path` (0600 if it is new), up to `max_bytes`, keeping `backups` old files.
    pub(crate) fn open(path: &Path, max_bytes: u64, backups: u32) -> io::Result<Self> {
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            written,
            max_bytes,
            backups,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for older in (1..self.backups).rev() {
            match fs::rename(self.backup(older), self.backup(older + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.backups == 0 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, self.backup(1))?;
        }
        self.file = append(&self.path)?;
        self.written = 0;
        Ok(())
    }

    fn backup(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

impl Sink for RotatedFile {}

impl Write for RotatedFile {
    /// Takes whole lines and never splits them over two files.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.written > 0 && self.written.saturating_add(lines.len() as u64) > self.max_bytes {
            // A file that cannot be moved away grows on: better than losing lines.
            let _ = self.rotate();
        }
        self.file.write_all(lines)?;
        self.written = self.written.saturating_add(lines.len() as u64);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_moves_on_and_only_so_many_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("proxy.log");
        let mut log = RotatedFile::open(&path, 10, 2).unwrap();
        for line in ["one 456\n", "two 456\n", "three 6\n", "four 56\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(
            (read("proxy.log"), read("proxy.log.1"), read("proxy.log.2")),
            ("four 56\n".into(), "three 6\n".into(), "two 456\n".into())
        );
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
    }

    #[test]
    fn an_existing_file_is_continued() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("proxy.log");
        fs::write(&path, "old\n").unwrap();
        RotatedFile::open(&path, 1000, 0).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
    }
}
