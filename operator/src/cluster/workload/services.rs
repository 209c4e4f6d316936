//! The two Services of a fleet: applications reach /v1 by the one, administrators /manage and metrics by the other, which is never routed outside.
//! It refuses to know pods.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{HTTP_PORT, MANAGE_PORT, Parent, labels};

/// Both Services.
pub(crate) fn services(parent: &Parent) -> [Service; 2] {
    [
        service(parent, &parent.names.service, "http", HTTP_PORT),
        service(parent, &parent.names.manage, "manage", MANAGE_PORT),
    ]
}

fn service(parent: &Parent, name: &str, port_name: &str, port: i32) -> Service {
    Service {
        metadata: parent.metadata(name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(labels::selector(&parent.name)),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port,
                target_port: Some(IntOrString::String(port_name.to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
