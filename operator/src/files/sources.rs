//! The `-f` paths and what lies under them now: folders, files and standard input, as texts.
//! It refuses to know what the texts declare.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::fault::Fault;

/// The source of objects that came through standard input, and how it is shown.
pub(super) const STDIN: &str = "<stdin>";
/// How long a file must have rested to be known again by what the system says of it: more than the coarsest resolution of a file's times.
const REST: Duration = Duration::from_secs(3);
/// The largest manifest that is read, in bytes; larger is not a manifest.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// What a folder is searched for, not recursively.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Where manifests come from.
#[derive(Clone)]
pub struct Sources {
    roots: Vec<Root>,
}

/// One `-f`.
#[derive(Clone)]
struct Root {
    /// As it was given.
    shown: String,
    from: From,
}

#[derive(Clone)]
enum From {
    /// Standard input, read once by the caller.
    Stdin(Arc<str>),
    /// A file or a folder, absolute.
    Path(PathBuf),
}

/// All that lies under the roots at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Every text that could be read.
    pub(super) texts: Vec<Text>,
    /// What could not, by source.
    pub(super) failed: Vec<Failed>,
    /// Whether everything was read.
    pub(super) complete: bool,
}

/// A file or folder that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The file as it is recorded with its objects; none if it is not there at all.
    pub(super) source: Option<Arc<str>>,
    /// What is wrong.
    pub(super) fault: Fault,
}

/// One file's text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// The file as a person knows it.
    pub(super) file: Arc<str>,
    /// The file as it is recorded with its objects: absolute.
    pub(super) source: Arc<str>,
    /// Which root it lies under.
    pub(super) root: usize,
    /// Its content.
    pub(super) text: Arc<str>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text")
            .field("file", &self.file)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.roots.iter().map(|root| &root.shown)).finish()
    }
}

impl Sources {
    /// Manifests from files and folders, and from standard input if the caller was told to read it (`-f -`).
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, stdin: Option<String>) -> Self {
        let path = |path: PathBuf| Root {
            shown: path.display().to_string(),
            from: From::Path(std::path::absolute(&path).unwrap_or(path)),
        };
        let stdin = stdin.map(|text| Root {
            shown: STDIN.to_owned(),
            from: From::Stdin(text.into()),
        });
        Self {
            roots: paths.into_iter().map(path).chain(stdin).collect(),
        }
    }

    /// The roots as they were given.
    pub(super) fn shown(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(|root| root.shown.as_str())
    }

    /// The root that a recorded source lies under now.
    pub(super) fn root_of(&self, source: &str) -> Option<usize> {
        self.roots.iter().position(|root| match &root.from {
            From::Stdin(_) => source == STDIN,
            From::Path(path) => source != STDIN && Path::new(source).starts_with(path),
        })
    }

    /// Reads everything once, but for files that `seen` knows to be what they were. Blocking.
    pub(super) fn read(&self, seen: &mut Seen) -> Reading {
        let mut reading = Reading {
            complete: true,
            ..Reading::default()
        };
        for (index, root) in self.roots.iter().enumerate() {
            match &root.from {
                From::Stdin(text) => {
                    let text = Arc::clone(text);
                    reading.texts.push(Text {
                        file: STDIN.into(),
                        source: STDIN.into(),
                        root: index,
                        text,
                    });
                }
                From::Path(path) => match files_under(path) {
                    Ok(files) => files.iter().for_each(|file| reading.take(index, root, path, file, seen)),
                    Err(error) => reading.fail(path, &root.shown, &error),
                },
            }
        }
        seen.forget_others(&reading);
        reading
    }
}

impl Reading {
    fn take(&mut self, index: usize, root: &Root, path: &Path, file: &Path, seen: &mut Seen) {
        let below = file.strip_prefix(path).ok().filter(|below| !below.as_os_str().is_empty());
        let shown = below.map_or_else(|| root.shown.clone(), |below| Path::new(&root.shown).join(below).display().to_string());
        match seen.read(file) {
            Ok(text) => {
                let source: Arc<str> = file.to_string_lossy().into();
                // The same file may lie under two roots; it is one file all the same.
                if self.texts.iter().all(|other| other.source != source) {
                    self.texts.push(Text {
                        file: shown.into(),
                        source,
                        root: index,
                        text,
                    });
                }
            }
            // Deleted between the look into the folder and the look at the file: the next scan knows more.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file != path => self.complete = false,
            Err(error) => self.fail(file, &shown, &error),
        }
    }

    fn fail(&mut self, path: &Path, shown: &str, error: &io::Error) {
        self.complete = false;
        let source = (error.kind() != io::ErrorKind::NotFound).then(|| path.to_string_lossy().into());
        self.failed.push(Failed {
            source,
            fault: Fault::of_file(shown, format!("cannot be read: {error}")),
        });
    }
}

fn files_under(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        // Editors keep locks and copies under hidden names.
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let wanted = file
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| EXTENSIONS.contains(&extension));
        if wanted && !hidden && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The files that were read, and what the system said of them then. A file is taken for unchanged only if all of it is the same, and if it had
/// rested for a while when it was read: a change within the resolution of the system's clock would leave no trace.
#[derive(Debug)]
pub(super) struct Seen {
    files: HashMap<PathBuf, (Stamp, Arc<str>)>,
    rest: Duration,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            rest: REST,
        }
    }
}

/// Device, inode, size, modification and change (seconds and nanoseconds). The change time cannot be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([i64; 7]);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let signed = u64::cast_signed;
        Self([
            signed(file.dev()),
            signed(file.ino()),
            signed(file.size()),
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ])
    }
}

impl Seen {
    /// A file's text, from memory if it is unchanged. The file is looked at in any case.
    fn read(&mut self, file: &Path) -> io::Result<Arc<str>> {
        let metadata = fs::metadata(file)?;
        let stamp = Stamp::of(&metadata);
        if let Some((_, text)) = self.files.get(file).filter(|(before, _)| *before == stamp) {
            return Ok(Arc::clone(text));
        }
        self.files.remove(file);
        let changed = u64::try_from(metadata.ctime()).map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        // Of a clock that was set back nothing is believed.
        let rested = changed.elapsed().is_ok_and(|passed| passed >= self.rest);
        let text: Arc<str> = read_text(file, &metadata)?.into();
        if rested {
            self.files.insert(file.to_path_buf(), (stamp, Arc::clone(&text)));
        }
        Ok(text)
    }

    fn forget_others(&mut self, reading: &Reading) {
        if self.files.len() > reading.texts.len() {
            let there: HashSet<&str> = reading.texts.iter().map(|text| &*text.source).collect();
            self.files.retain(|file, _| there.contains(&*file.to_string_lossy()));
        }
    }
}

fn read_text(file: &Path, metadata: &Metadata) -> io::Result<String> {
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file; pipe it and use -f - instead",
        ));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than 16 MiB"));
    }
    let text = String::from_utf8(fs::read(file)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))?;
    if text.trim().is_empty() {
        // What an editor leaves for a moment must not look like a deletion.
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it is empty; what it declared stays as it was; delete the file to delete it",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_is_not_read_again_and_a_changed_one_is_even_if_size_and_time_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, "x: 1").unwrap();
        let mut seen = Seen {
            rest: Duration::ZERO,
            ..Seen::default()
        };
        let first = seen.read(&file).unwrap();
        assert!(Arc::ptr_eq(&first, &seen.read(&file).unwrap()), "it is what it was");
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        // The system's clock for files ticks every few milliseconds.
        let text = std::iter::repeat_with(|| {
            fs::write(&file, "x: 2").unwrap();
            fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
            seen.read(&file).unwrap()
        });
        assert!(text.take(1_000_000).any(|text| *text == *"x: 2"));
        let mut wary = Seen::default();
        let one = wary.read(&file).unwrap();
        assert!(!Arc::ptr_eq(&one, &wary.read(&file).unwrap()), "it has not rested yet");
    }

    #[test]
    fn a_folder_is_read_for_manifests_only_and_not_below() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "d.txt", ".e.yaml", "f.yaml~"] {
            fs::write(dir.path().join(name), "x: 1").unwrap();
        }
        fs::create_dir(dir.path().join("g.yaml")).unwrap();
        let reading = Sources::new(vec![dir.path().to_path_buf(), dir.path().join("b.yaml")], Some("y: 2".to_owned())).read(&mut Seen::default());
        let names: Vec<_> = reading
            .texts
            .iter()
            .map(|text| text.file.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names, ["a.yml", "b.yaml", "c.json", STDIN]);
        assert!(reading.complete && reading.failed.is_empty());
    }

    #[test]
    fn what_cannot_be_read_makes_a_reading_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty.yaml"), " \n").unwrap();
        fs::write(dir.path().join("latin.yaml"), b"\xff\xfe").unwrap();
        let reading = Sources::new(vec![dir.path().to_path_buf(), dir.path().join("gone")], None).read(&mut Seen::default());
        assert!(!reading.complete && reading.texts.is_empty());
        let said: Vec<String> = reading.failed.iter().map(|failed| failed.fault.to_string()).collect();
        assert!(said[0].contains("empty.yaml: cannot be read: it is empty"), "{said:?}");
        assert!(
            said[1].contains("latin.yaml: cannot be read: not UTF-8") && said[2].contains("gone: cannot be read"),
            "{said:?}"
        );
    }

    #[test]
    fn a_recorded_source_is_found_under_its_root_by_whole_names() {
        let sources = Sources::new(vec![PathBuf::from("/m/a"), PathBuf::from("/m/b.yaml")], Some(String::new()));
        assert_eq!(sources.root_of("/m/a/x.yaml"), Some(0));
        assert_eq!(sources.root_of("/m/ab/x.yaml"), None);
        assert_eq!(sources.root_of("/m/b.yaml"), Some(1));
        assert_eq!(sources.root_of(STDIN), Some(2));
        assert_eq!(Sources::new(vec![PathBuf::from("/")], None).root_of(STDIN), None);
    }
}
