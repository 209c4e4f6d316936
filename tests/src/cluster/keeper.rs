//! A process that ends with its owner, in whatever way that one ends. It refuses to know what it runs.
//!
//! A shell stands between: it waits for its standard input to end, which happens when its parent dies, even by `kill -9`, then kills the process.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// `$1` is the file for the process's id, `$2` its log.
const SCRIPT: &str = r#"pid=$1 log=$2; shift 2
trap '' INT TERM HUP
"$@" </dev/null >>"$log" 2>&1 &
child=$!
echo $child >"$pid.draft" && mv "$pid.draft" "$pid"
cat >/dev/null
kill -KILL $child 2>/dev/null
wait $child
rm -f "$pid""#;

/// Removes the run folder `$1` when everything that ran in it is gone.
const SWEEPER: &str = r#"folder=$1
trap '' INT TERM HUP
cat >/dev/null
tries=0
while ls "$folder"/*.pid >/dev/null 2>&1 && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
rm -rf "$folder""#;

/// Where the id of the run folder's own shell stands.
const SWEEPER_ID: &str = "sweeper";

/// How the names of run folders begin.
const PREFIX: &str = "llm-proxy-test-cluster-";

/// A kept process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Kept {
    shell: Child,
    process: Pid,
    log: PathBuf,
}

impl Kept {
    /// Runs a command in `folder`; its id stands in `<name>.pid`, its output is added to `<name>.log`.
    ///
    /// # Panics
    /// If there is no shell.
    pub(super) fn spawn(folder: &Path, name: &str, command: &Command) -> Self {
        let (id, log) = (folder.join(format!("{name}.pid")), folder.join(format!("{name}.log")));
        let _ = fs::remove_file(&id);
        let mut shell = shell(SCRIPT);
        shell
            .arg(&id)
            .arg(&log)
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder);
        let shell = shell.spawn().expect("/bin/sh runs");
        let begun = Instant::now();
        let process = loop {
            let written = fs::read_to_string(&id).ok();
            if let Some(pid) = written.and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw) {
                break pid;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} was not started");
            std::thread::sleep(Duration::from_millis(1));
        };
        Self { shell, process, log }
    }

    /// Whether it has ended by itself: nobody waits for it, so it is a zombie.
    pub(super) fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    }

    /// The last lines of what it said.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// The process itself.
    pub(super) fn pid(&self) -> Pid {
        self.process
    }

    /// Sends a signal, for instance STOP and CONT.
    ///
    /// # Panics
    /// If it is gone.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.process, signal).expect("the process takes a signal");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A folder that goes when its owner does, after everything that ran in it.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    sweeper: Child,
}

impl RunFolder {
    /// Makes one below the system's folder for temporary files.
    ///
    /// # Panics
    /// If that is not writable.
    pub(super) fn make() -> Self {
        remove_leftovers(&std::env::temp_dir());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a run folder");
        let path = folder.keep();
        let sweeper = shell(SWEEPER).arg(&path).spawn().expect("/bin/sh runs");
        std::fs::write(path.join(SWEEPER_ID), sweeper.id().to_string()).expect("a writable run folder");
        Self { path, sweeper }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// In a group of its own: Ctrl-C must not stop a control plane under tests that are still cleaning up.
pub(super) fn shell(script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "keeper"]).stdin(Stdio::piped()).process_group(0);
    shell.stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

/// Ends and removes what runs left behind whose shells were killed too, or whose machine was switched off.
fn remove_leftovers(folders: &Path) {
    let number = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<i32>().ok();
    for entry in fs::read_dir(folders).into_iter().flatten().flatten() {
        let folder = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let modified = entry.metadata().and_then(|data| data.modified());
        // One that is just being made has no shell yet.
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_secs(120)));
        // Process ids are used again: who names the folder is the one.
        let line = |id: i32| fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let swept = |id: i32| String::from_utf8_lossy(&line(id)).contains(&*folder.to_string_lossy());
        if !ours || !old || number(&folder.join(SWEEPER_ID)).is_some_and(swept) {
            continue;
        }
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let id = file.path().extension().filter(|&name| name == "pid").and_then(|_| number(&file.path()));
            if let Some(id) = id.filter(|id| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == folder))
                && let Some(pid) = Pid::from_raw(id)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(&folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn a_process_ends_with_its_owner_and_the_folder_after_it() {
        let folder = RunFolder::make();
        let path = folder.path().to_owned();
        let kept = Kept::spawn(&path, "sleeper", Command::new("sleep").arg("1000"));
        let cwd = PathBuf::from(format!("/proc/{}/cwd", kept.pid().as_raw_nonzero()));
        assert!(!kept.has_ended() && fs::read_link(&cwd).unwrap() == path);
        drop(kept);
        assert!(fs::read_link(&cwd).is_err() && path.exists());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_process_that_ends_by_itself_is_noticed_with_its_last_words() {
        let folder = RunFolder::make();
        let kept = Kept::spawn(folder.path(), "speaker", Command::new("sh").args(["-c", "echo goodbye >&2"]));
        wait::until("it ends", wait::SOON, || kept.has_ended());
        assert_eq!(kept.last_words(), "goodbye");
    }

    #[test]
    fn what_nobody_looks_after_any_more_is_ended_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let [left, kept, foreign] = [format!("{PREFIX}left"), format!("{PREFIX}kept"), "other-left".to_owned()].map(|name| {
            let folder = temporary.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        });
        let mut orphan = Command::new("sleep").arg("1000").current_dir(&left).spawn().unwrap();
        fs::write(left.join("etcd.pid"), orphan.id().to_string()).unwrap();
        fs::write(left.join(SWEEPER_ID), orphan.id().to_string()).unwrap();
        let mut sweeper = shell(SWEEPER).arg(&kept).spawn().unwrap();
        fs::write(kept.join(SWEEPER_ID), sweeper.id().to_string()).unwrap();
        // A new process has its arguments a moment later than whoever started it goes on.
        let arguments = format!("/proc/{}/cmdline", sweeper.id());
        wait::until("it has its arguments", wait::SOON, || {
            fs::read(&arguments).is_ok_and(|line| !line.is_empty())
        });
        remove_leftovers(temporary.path());
        assert!(left.exists(), "too young");
        let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
        for folder in [&left, &kept, &foreign] {
            fs::File::open(folder).unwrap().set_modified(hour).unwrap();
        }
        remove_leftovers(temporary.path());
        assert_eq!((left.exists(), kept.exists(), foreign.exists()), (false, true, true));
        assert!(!orphan.wait().unwrap().success());
        drop(sweeper.stdin.take());
        sweeper.wait().unwrap();
    }
}
