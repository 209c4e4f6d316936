//! The certificate authority, serving certificate and signing key of one control plane. It refuses to know who asks for them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

/// Writes `ca.crt`, `server.crt`, `server.key` (for 127.0.0.1 and further addresses) and `sa.key`, `sa.pub` (of ServiceAccount tokens) into a folder.
///
/// # Panics
/// If the folder is not writable.
pub(super) fn write(folder: &Path, addresses: &[Ipv4Addr]) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "llm-proxy tests");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_key = KeyPair::generate().expect("a key");
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");

    let mut server = CertificateParams::new(["localhost".to_owned(), "kubernetes.default.svc".to_owned()]).expect("two names");
    for &address in [Ipv4Addr::LOCALHOST].iter().chain(addresses) {
        server.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
    }
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate().expect("a key");
    let server_certificate = server.signed_by(&server_key, &Issuer::from_params(&ca, &ca_key)).expect("a certificate");

    let accounts_key = KeyPair::generate().expect("a key");
    let files = [
        ("ca.crt", ca_certificate.pem()),
        ("server.crt", server_certificate.pem()),
        ("server.key", server_key.serialize_pem()),
        ("sa.key", accounts_key.serialize_pem()),
        ("sa.pub", accounts_key.public_key_pem()),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), content).expect("a writable run folder");
    }
}
