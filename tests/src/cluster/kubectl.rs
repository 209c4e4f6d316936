//! kubectl as people run it, against the control plane of a test.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::{Cluster, User};

/// How a run of kubectl ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error: refusals and warnings.
    pub stderr: String,
}

impl Answer {
    /// Standard output of a run that has to succeed.
    ///
    /// # Panics
    /// With what it said, if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "kubectl failed: {}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a run that has to fail.
    ///
    /// # Panics
    /// With what it said, if it succeeded.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.success, "kubectl succeeded: {}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            success: output.status.success(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Cluster {
    /// A kubectl of this user, to be given arguments. What it has discovered is remembered beside the control plane, not in the home folder.
    #[must_use]
    pub fn kubectl_command(&self, user: User) -> Command {
        let mut command = Command::new(&self.programs.kubectl);
        command.env("KUBECONFIG", self.kubeconfig(user)).env("HOME", self.folder());
        command.env("KUBECACHEDIR", self.folder().join("kubectl"));
        command
    }

    /// Runs kubectl as the admin.
    #[must_use]
    pub fn kubectl(&self, args: &[&str]) -> Answer {
        self.kubectl_as(User::Admin, args)
    }

    /// Runs kubectl as a user.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn kubectl_as(&self, user: User, args: &[&str]) -> Answer {
        let command = &mut self.kubectl_command(user);
        command.args(args).stdin(Stdio::null()).output().expect("kubectl runs").into()
    }

    /// Runs kubectl as a user, with a text on its standard input (`-f -`).
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn kubectl_with_input(&self, user: User, args: &[&str], input: &str) -> Answer {
        let command = &mut self.kubectl_command(user);
        let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("its input");
        // It may refuse its arguments before it reads.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("kubectl ends").into()
    }
}
