//! Replaces a file of this user alone, all of it or nothing. It refuses to know what is in it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Temporary file beside it (0600, of a name that nobody else has), fsync, rename, fsync of the folder.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = beside(folder, path)?;
    let written = write_new(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of a failed write is nobody's; the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn beside(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    Ok(folder.join(temporary))
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_else_in_the_folder_is_touched_and_only_the_owner_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("app.env");
        for name in ["app.env", "app.new", "app.env.new"] {
            fs::write(root.path().join(name), "old").unwrap();
        }
        replace(&path, b"A=1\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "A=1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for other in ["app.new", "app.env.new"] {
            assert_eq!(fs::read_to_string(root.path().join(other)).unwrap(), "old", "{other}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        assert!(replace(&root.path().join("folder"), b"x").is_err());
        assert!(replace(&root.path().join("missing/.env"), b"x").is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
