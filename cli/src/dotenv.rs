//! The `.env` file: read into the environment before the command line is parsed, so that flags > environment > file > default holds for
//! every flag that has a variable; and how a value is written into one. It refuses to know what the variables mean.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::invocation::Invocation;

/// The file that is read if `--config` names none.
pub(crate) const DEFAULT: &str = ".env";

/// The commands that read one. `standalone` and a fleet's pods are told everything by manifests and the database.
const READERS: [&str; 5] = ["manage", "migrate", "openai", "server", "setup"];

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Sets what the `.env` file of this command line says and the environment does not. Must run before there is a second thread.
///
/// A missing file is none, unless `--config` names it; `setup` is about to make it.
/// kubectl's plugin reads only the file that is named: what lies in the working directory is not meant for it.
pub(crate) fn load(invocation: Invocation, args: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let args: Vec<OsString> = args.collect();
    let Some(command) = args.iter().find(|arg| !arg.as_encoded_bytes().starts_with(b"-")) else {
        return Ok(());
    };
    if !READERS.iter().any(|reader| command == reader) {
        return Ok(());
    }
    let named = config_of(&args);
    if named.is_none() && invocation != Invocation::Itself {
        return Ok(());
    }
    let path = named.as_deref().unwrap_or(Path::new(DEFAULT));
    let optional = named.is_none() || command == "setup";
    match read(path)? {
        Some(text) => set(&text).map_err(|error| unreadable(path, &text, &error)),
        None if optional => Ok(()),
        None => Err(Failure::new(format_args!(
            "cannot read {}: no such file: give --config a file of NAME=value lines",
            path.display()
        ))),
    }
}

/// Sets what is said and not set yet. An empty value says nothing: files made from a template have many.
fn set(text: &str) -> Result<(), dotenvy::Error> {
    let mut said = Zeroizing::new(String::new());
    for pair in dotenvy::from_read_iter(text.trim_start_matches('\u{feff}').as_bytes()) {
        let (name, value) = pair?;
        if !value.is_empty() {
            said.push_str(&line(&name, &value));
        }
    }
    dotenvy::from_read(said.as_bytes())
}

/// A variable of the environment, which the file completes; an empty one counts as none.
pub(crate) fn variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}

/// The text of the file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format_args!("cannot read {}: {why}", path.display()));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(failed(&"it is a directory: give --config a file of NAME=value lines")),
        Ok(found) if found.len() > MAX_BYTES => return Err(failed(&"it is larger than 1 MiB")),
        _ => {}
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// `--config FILE` or `--config=FILE`, before a `--`; the last one, as clap has it.
fn config_of(args: &[OsString]) -> Option<PathBuf> {
    let flags = args.split(|arg| arg == "--").next().unwrap_or_default();
    let mut found = None;
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if flag == "--config" {
            found = flags.next().map(PathBuf::from);
        } else if let Some(path) = flag.to_str().and_then(|flag| flag.strip_prefix("--config=")) {
            found = Some(PathBuf::from(path));
        }
    }
    found.filter(|path| path.as_os_str() != OsStr::new(""))
}

/// Says which line, never what stands in it: it may be a key.
fn unreadable(path: &Path, text: &str, error: &dotenvy::Error) -> Failure {
    let line = match error {
        dotenvy::Error::LineParse(content, _) => text.lines().position(|line| line.trim().ends_with(content.trim())),
        _ => None,
    };
    let line = line.map(|index| format!(":{}", index + 1)).unwrap_or_default();
    Failure::new(format_args!(
        "{}{line}: expected NAME=value, with quotes around a value that holds spaces, quotes or $",
        path.display()
    ))
}

/// A line that sets `name`, read alike by this program and by a shell.
pub(crate) fn line(name: &str, value: &str) -> Zeroizing<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(&byte);
    let mut line = Zeroizing::new(String::with_capacity(name.len() + 2 * value.len() + 4));
    line.push_str(name);
    line.push('=');
    if value.bytes().all(plain) {
        line.push_str(value);
    } else if !value.contains('\'') {
        line.push('\'');
        line.push_str(value);
        line.push('\'');
    } else {
        line.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$') {
                line.push('\\');
            }
            line.push(c);
        }
        line.push('"');
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Option<PathBuf> {
        config_of(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_file_is_named_as_clap_reads_it() {
        assert_eq!(config(&["server", "--config", "a"]), Some("a".into()));
        assert_eq!(config(&["server", "--config=a", "--config", "b"]), Some("b".into()));
        assert_eq!(config(&["openai", "chat", "--", "--config", "a"]), None);
        assert_eq!(config(&["server", "--config"]), None);
        assert_eq!(config(&["server", "--config="]), None);
    }

    #[test]
    fn every_value_that_is_written_reads_back() {
        for value in [
            "",
            "sk-proj_1",
            ":8080",
            "My Project",
            "a'b",
            "a'b\"c\\d$e",
            "#x",
            "a b#c",
            "ü",
            "a=b",
            "$HOME",
            "two\nlines",
            "it's\ntwo",
        ] {
            let line = line("NAME", value);
            let read: Vec<_> = dotenvy::from_read_iter(line.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(read, [("NAME".to_owned(), value.to_owned())], "{}", line.as_str());
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_by_number_and_not_shown() {
        let text = "A=1\n\nB='sk-secret\n";
        let error = dotenvy::from_read_iter(text.as_bytes()).find_map(Result::err).unwrap();
        let report = unreadable(Path::new("x.env"), text, &error).report();
        assert!(report.starts_with("error: x.env:3: ") && !report.contains("secret"), "{report}");
    }
}
