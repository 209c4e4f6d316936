//! Commands as a person types them on the first day, what they answer, and the transcript of it, in which all that differs from run to run is masked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use testkit::charts;
use testkit::cluster::{Answer, User};
use testkit::{masks, program};

use crate::site::{SYSTEM, Site};

/// The document that the transcript is.
const DOCUMENT: &str = "docs/first-day.md";

/// A person at a terminal in the repository's folder, who has another namespace than the operator's.
pub(crate) struct Terminal<'a> {
    site: &'a Site,
    namespace: &'static str,
    /// What `make install` makes.
    tools: PathBuf,
    transcript: String,
    begun: Instant,
}

impl<'a> Terminal<'a> {
    pub(crate) fn new(site: &'a Site, namespace: &'static str) -> Self {
        let tools = site.node.scratch("tools");
        std::fs::create_dir(&tools).unwrap();
        std::os::unix::fs::symlink(program::path(), tools.join("kubectl-llm_proxy")).unwrap();
        Self {
            site,
            namespace,
            tools,
            transcript: String::new(),
            begun: Instant::now(),
        }
    }

    /// A heading.
    pub(crate) fn says(&mut self, text: &str) {
        eprintln!("[{:5.1} s] {text}", self.begun.elapsed().as_secs_f64());
        let _ = write!(self.transcript, "\n# {text}\n");
    }

    /// kubectl in the person's namespace, with an exit code of 0.
    #[track_caller]
    pub(crate) fn kubectl(&mut self, words: &str) -> String {
        let args: Vec<&str> = words.split(' ').collect();
        let mut command = self.site.cluster().kubectl_command(User::Admin);
        // A plugin is found on PATH, and finds the fleet by itself; kubectl's flags do not stand before it.
        if args[0] == "llm-proxy" {
            command.env("PATH", &self.tools);
        } else {
            command.args(["--namespace", self.namespace]);
        }
        command.args(&args).current_dir(repository());
        let answer = Answer::from(command.output().unwrap());
        self.record(&format!("kubectl {words}"), &answer, ["get", "llm-proxy"].contains(&args[0]));
        answer.ok()
    }

    /// Helm in the operator's namespace, with an exit code of 0.
    #[track_caller]
    pub(crate) fn helm(&mut self, words: &str) -> String {
        let mut command = charts::helm(self.site.cluster().folder());
        command
            .env("KUBECONFIG", self.site.cluster().kubeconfig(User::Admin))
            .current_dir(repository());
        command.args(["--namespace", SYSTEM]).args(words.split(' '));
        let answer = Answer::from(command.output().unwrap());
        self.record(&format!("helm {words}"), &answer, false);
        answer.ok()
    }

    #[track_caller]
    fn record(&mut self, command: &str, answer: &Answer, is_table: bool) {
        eprintln!("[{:5.1} s] $ {command}", self.begun.elapsed().as_secs_f64());
        assert!(
            answer.success,
            "{command}: {}{}\n{}",
            answer.stdout,
            answer.stderr,
            self.site.told(self.namespace)
        );
        let said = format!("{}{}", answer.stdout, answer.stderr);
        let said = if is_table {
            let tables = said
                .trim_end()
                .split("\n\n")
                .map(|table| masks::table(table, &["AGE", "EXPIRES", "ID", "CREATED", "UPDATED"], masks::words));
            tables.collect::<Vec<_>>().join("\n")
        } else {
            masks::labelled(&masks::words(&said), &["LAST DEPLOYED:"])
        };
        let _ = writeln!(self.transcript, "$ {command}\n{}", said.trim_end());
    }

    /// How long it took so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Whether the document says what was seen. UPDATE_TRANSCRIPT=1 writes it anew.
    #[track_caller]
    pub(crate) fn compare(&self) {
        let path = repository().join(DOCUMENT);
        let text = format!(
            "What the first day looks like, as the test on a real node runs it (`UPDATE_TRANSCRIPT=1 make node` writes it anew); times are masked.\n\n\
             ```console\n{}```\n",
            self.transcript.trim_start()
        );
        if std::env::var_os("UPDATE_TRANSCRIPT").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let document = std::fs::read_to_string(&path).unwrap_or_default();
        let mut pairs = text.lines().zip(document.lines());
        let first = pairs.find(|(now, then)| now != then);
        assert!(
            text == document,
            "{DOCUMENT} is not what was seen: UPDATE_TRANSCRIPT=1 writes it anew. The first line that differs, now and there: {first:#?}\n{text}"
        );
    }
}

/// Where the chart and the examples are.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
