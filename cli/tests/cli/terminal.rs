//! The binary on a terminal of its own (util-linux's `script` makes one), read and typed at like a person does.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::process::{eventually, quiet_environment};

/// A command on a terminal; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    shown: Arc<Mutex<String>>,
    /// How much of it has been waited for.
    seen: usize,
}

impl Terminal {
    /// Runs `command`, whose arguments hold no quotes.
    pub(crate) fn run(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        // `exec`: a shell that stayed in between (dash, where SHELL is unset) would die of the Ctrl-C that the command lives through.
        script.args(["-q", "-e", "-c", &format!("exec {}", line.join(" ")), "/dev/null"]);
        quiet_environment(&mut script);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            script.current_dir(directory);
        }
        let mut child = script
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let mut stdout = child.stdout.take().unwrap();
        let into = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child, shown, seen: 0 }
    }

    /// Waits until `text` is shown, after what was waited for before.
    pub(crate) fn expect(&mut self, text: &str) {
        let (shown, seen) = (Arc::clone(&self.shown), self.seen);
        self.seen = eventually(&format!("{text:?} on the terminal"), || {
            let shown = shown.lock().unwrap();
            shown[seen..].find(text).map(|at| seen + at + text.len())
        });
    }

    /// Presses these keys.
    pub(crate) fn keys(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits for a prompt and answers it.
    pub(crate) fn answer(&mut self, prompt: &str, answer: &str) {
        self.expect(prompt);
        self.keys(&format!("{answer}\r"));
    }

    /// Waits for the end; the exit code and all that was shown.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = eventually("the command ends", || self.child.try_wait().unwrap()).code();
        // The reader may be behind by a moment.
        let shown = Arc::clone(&self.shown);
        let text = eventually("all is read", || {
            let before = shown.lock().unwrap().len();
            std::thread::sleep(std::time::Duration::from_millis(20));
            let shown = shown.lock().unwrap();
            (shown.len() == before).then(|| shown.clone())
        });
        (code, text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
