//! What the API server, or the way to it, says instead of an answer: one line and an exit code's kind. It refuses to show what a credential plugin,
//! a proxy's URL or an answer holds beyond the API server's own message.

use http::Uri;
use kube::Error;
use kube::client::AuthError;

use super::Refusal;
use super::cluster::Act;
use crate::client::printable;
use crate::exit::Kind;

/// Sorts an error of the client.
pub(super) fn refusal(error: &Error, act: Act<'_>, server: &str) -> Refusal {
    let (kind, why) = match error {
        Error::Api(status) => return said(status.code, &status.message, act, server),
        Error::Auth(why) => (Kind::Authentication, credential(why)),
        Error::ProxyProtocolUnsupported { .. } | Error::ProxyProtocolDisabled { .. } => (
            Kind::Other,
            "the proxy that the kubeconfig or HTTPS_PROXY names is neither http:// nor https://".to_owned(),
        ),
        Error::RustlsTls(_) => (Kind::Other, "the kubeconfig's certificates or key cannot be used".to_owned()),
        Error::InferConfig(_) | Error::InferKubeconfig(_) => (Kind::Other, "the kubeconfig cannot be used".to_owned()),
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => (
            Kind::Network,
            format!(
                "no connection to the API server at {server}: {}: check --context and --kubeconfig",
                root(error)
            ),
        ),
        Error::UpgradeConnection(why) => (
            Kind::Network,
            format!(
                "the API server at {server}, or a proxy before it, does not carry tunnels: {}",
                printable(&why.to_string())
            ),
        ),
        _ => (
            Kind::Other,
            format!("what answers at {server} is no API server of Kubernetes, or a newer one: check --context"),
        ),
    };
    Refusal {
        kind,
        why: format!("{}: {why}", act.cannot),
        forbidden: false,
    }
}

/// A status of the API server.
fn said(code: u16, message: &str, act: Act<'_>, server: &str) -> Refusal {
    let Act { cannot, right } = act;
    let message = printable(message);
    let message = message.trim_end_matches([':', '.']);
    let (kind, why) = match code {
        401 => (
            Kind::Authentication,
            format!("the API server at {server} does not accept the kubeconfig's user: log in again, or check --context"),
        ),
        403 => (Kind::Authentication, format!("it takes the right to {right}: {message}")),
        404 => (Kind::NotFound, message.to_owned()),
        408 | 504 => (
            Kind::Timeout,
            format!("the API server at {server} gave up ({code}): {message}: try again"),
        ),
        _ => (Kind::Other, format!("the API server at {server} answered {code}: {message}")),
    };
    Refusal {
        kind,
        why: format!("{cannot}: {why}"),
        forbidden: code == 403,
    }
}

/// Why there is no credential. The output of a plugin may hold one, so it is not shown.
fn credential(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(why) => format!(
            "the kubeconfig's credential plugin does not start: {}",
            match why.kind() {
                std::io::ErrorKind::NotFound => "there is no such program on PATH".to_owned(),
                _ => printable(&why.to_string()),
            }
        ),
        // Its command line and environment stand in the error too.
        AuthError::AuthExecRun { out, .. } => format!("the kubeconfig's credential plugin failed ({}): run it by hand to see why", out.status),
        AuthError::ReadTokenFile(_, path) => format!("the token file {} cannot be read", path.display()),
        _ => "the kubeconfig's user has no credential that can be used: log in again".to_owned(),
    }
}

/// The reason at the bottom of a broken connection.
fn root(error: &Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    if let Some(error) = reason.downcast_ref::<std::io::Error>()
        && error.kind() == std::io::ErrorKind::ConnectionRefused
    {
        return "connection refused".to_owned();
    }
    let text = reason.to_string();
    printable(text.split(" (os error").next().unwrap_or(&text))
}

/// Scheme, host and port: an address may hold a password.
pub(super) fn server_name(server: &Uri) -> String {
    let port = server.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", server.scheme_str().unwrap_or("https"), server.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{ExitStatus, Output};

    use super::*;
    use kube::core::Status;

    const ACT: Act<'_> = Act {
        cannot: "cannot read the Secret a/b",
        right: "get on secrets in namespace a",
    };

    fn api(code: u16, message: &str) -> Refusal {
        let status = Status::failure(message, "Reason").with_code(code);
        refusal(&Error::Api(status.boxed()), ACT, "https://k:1")
    }

    #[test]
    fn a_status_of_the_api_server_becomes_an_exit_code() {
        for (code, kind) in [
            (401, Kind::Authentication),
            (403, Kind::Authentication),
            (404, Kind::NotFound),
            (504, Kind::Timeout),
            (500, Kind::Other),
        ] {
            let refused = api(code, "it says\nso");
            assert_eq!(refused.kind, kind, "{code}");
            assert!(
                refused.why.starts_with("cannot read the Secret a/b: ") && !refused.why.contains('\n'),
                "{refused:?}"
            );
        }
        let forbidden = api(403, "secrets \"b\" is forbidden").why;
        assert!(
            forbidden.contains("the right to get on secrets in namespace a") && forbidden.contains("is forbidden"),
            "{forbidden}"
        );
    }

    #[test]
    fn what_a_credential_plugin_printed_is_not_shown() {
        let out = Output {
            status: ExitStatus::from_raw(256),
            stdout: b"canary".to_vec(),
            stderr: b"canary".to_vec(),
        };
        let error = Error::Auth(AuthError::AuthExecRun {
            cmd: "canary".to_owned(),
            out: Box::new(out),
        });
        let refused = refusal(&error, ACT, "https://k:1");
        assert_eq!(refused.kind, Kind::Authentication);
        assert!(refused.why.contains("exit status: 1") && !refused.why.contains("canary"), "{refused:?}");
    }

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        assert_eq!(
            server_name(&"https://u:canary@k.example:6443/path".parse().unwrap()),
            "https://k.example:6443"
        );
    }
}
