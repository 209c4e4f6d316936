//! A node with our image on it, and the chart where a test wants it. It refuses to know fleets.

use std::ops::Deref;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use testkit::charts;
use testkit::cluster::node::Node;
use testkit::cluster::{Answer, Cluster, User};
use testkit::image::{self, Recipe};
use testkit::{program, wait};

/// Where the operator runs.
pub(crate) const SYSTEM: &str = "llm-proxy-system";

/// The image of operator and fleets.
pub(crate) const IMAGE: &str = "llm-proxy:tests";

/// Pod Security's strictest rules hold in every namespace of ours.
pub(crate) const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// A node and what its control plane is asked.
pub(crate) struct Site {
    pub(crate) node: Node,
    /// Of the files in our image, in bytes.
    pub(crate) image_size: u64,
}

impl Site {
    /// A node of a test's own, with our image and nothing else; none where a node is not possible.
    pub(crate) fn of_its_own() -> Option<Self> {
        let node = Node::start_where_possible()?;
        let image_size = import_image(&node);
        Some(Self { node, image_size })
    }

    /// The node with the chart that tests share, each in a namespace of its own, beside others. It ends with the process.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Site>> = OnceLock::new();
        let start = || {
            let site = Self::of_its_own()?;
            site.make_system_namespace();
            site.install(&["--wait"]);
            Some(site)
        };
        SHARED.get_or_init(start).as_ref()
    }

    /// The node without a chart for tests that install one, one after the other: each takes away what it put there.
    pub(crate) fn for_an_installation() -> Option<Turn> {
        static SITE: Mutex<Option<Site>> = Mutex::new(None);
        let mut site = SITE.lock().unwrap_or_else(|poisoned| {
            // A test that failed has left its things behind.
            let mut site = poisoned.into_inner();
            *site = None;
            SITE.clear_poison();
            site
        });
        if site.is_none() {
            *site = Some(Self::of_its_own()?);
        }
        Some(Turn(site))
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.node.cluster()
    }

    /// The namespace of the operator.
    pub(crate) fn make_system_namespace(&self) {
        let label = format!("{}={}", RESTRICTED.0, RESTRICTED.1);
        let _ = self.kubectl(&["create", "namespace", SYSTEM]).ok();
        let _ = self.kubectl(&["label", "namespace", SYSTEM, &label]).ok();
        self.await_account(SYSTEM);
    }

    /// Waits until pods may be made in a new namespace.
    pub(crate) fn await_account(&self, namespace: &str) {
        let wait = ["-n", namespace, "wait", "serviceaccount/default", "--for=create", "--timeout=60s"];
        let _ = self.kubectl(&wait).ok();
    }

    /// `helm install` of the chart with our image; returns what it printed.
    #[track_caller]
    pub(crate) fn install(&self, args: &[&str]) -> String {
        let chart = charts::chart("llm-proxy");
        let install = ["install", "llm-proxy", chart.to_str().unwrap(), "--set=image.tag=tests", "--timeout=120s"];
        let answer = self.helm(&[&install[..], args].concat());
        assert!(answer.success, "{}{}\n{}", answer.stdout, answer.stderr, self.told(SYSTEM));
        answer.stdout
    }

    /// `helm uninstall`, until nothing of the release is left.
    #[track_caller]
    pub(crate) fn uninstall(&self) {
        let answer = self.helm(&["uninstall", "llm-proxy", "--wait", "--timeout=120s"]);
        assert!(answer.success, "{}{}\n{}", answer.stdout, answer.stderr, self.told(SYSTEM));
    }

    /// Takes the operator's namespace away, with what stays in it.
    pub(crate) fn remove_system_namespace(&self) {
        let _ = self.kubectl(&["delete", "namespace", SYSTEM, "--timeout=120s"]).ok();
    }

    /// Helm in the operator's namespace, as the admin.
    pub(crate) fn helm(&self, args: &[&str]) -> Answer {
        let mut command = charts::helm(self.cluster().folder());
        command
            .env("KUBECONFIG", self.cluster().kubeconfig(User::Admin))
            .args(["--namespace", SYSTEM])
            .args(args);
        command.output().unwrap().into()
    }

    /// kubectl, as the admin.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        self.cluster().kubectl(args)
    }

    /// Everything that tells why something failed in a namespace.
    pub(crate) fn told(&self, namespace: &str) -> String {
        let mut told = String::new();
        for args in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "llm-proxy", "-A", "-o", "yaml"],
            &["get", "events", "-A"],
            &["-n", SYSTEM, "describe", "pods"],
            &[
                "-n",
                SYSTEM,
                "logs",
                "-l",
                "app.kubernetes.io/component=operator",
                "--tail=60",
                "--prefix",
            ],
            &["-n", namespace, "describe", "pods"],
            &[
                "-n",
                namespace,
                "logs",
                "-l",
                "app.kubernetes.io/part-of=llm-proxy",
                "--tail=40",
                "--prefix",
            ],
        ] {
            let answer = self.kubectl(args);
            told += &format!("--- kubectl {}\n{}{}\n", args.join(" "), answer.stdout, answer.stderr);
        }
        told
    }
}

/// Makes the binary under test known to the node, without what only a debugger reads: half of a debug build. Returns the size of the image's files.
fn import_image(node: &Node) -> u64 {
    let (binary, stripped) = (program::path(), node.scratch("llm-proxy"));
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&binary).status();
    let packed = if strip.is_ok_and(|status| status.success()) {
        &stripped
    } else {
        &binary
    };
    let image = image::write(&Recipe::of_llm_proxy(packed, IMAGE), &node.scratch("image.tar")).unwrap();
    node.import(&image);
    image.size
}

/// The right to change what stands on a node, for as long as this lives.
pub(crate) struct Turn(MutexGuard<'static, Option<Site>>);

impl Deref for Turn {
    type Target = Site;

    fn deref(&self) -> &Site {
        self.0.as_ref().unwrap()
    }
}

/// Waits for what costs a process to look at: five looks a second.
#[track_caller]
pub(crate) fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait::until(what, limit, || {
        let met = condition();
        if !met {
            std::thread::sleep(Duration::from_millis(200));
        }
        met
    });
}

/// Whether a test that takes long is to run. Says loudly what is left to `make test-long`, past the test runner.
pub(crate) fn long(what: &str) -> bool {
    use std::io::Write as _;
    if !wait::long_variant() {
        let _ = writeln!(std::io::stderr(), "left to `make test-long`: {what}");
    }
    wait::long_variant()
}
