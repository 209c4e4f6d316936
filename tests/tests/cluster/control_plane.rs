//! The control plane itself: it serves our definitions, knows its users, and leaves nothing behind.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Error};
use testkit::cluster::{Cluster, User};

use crds::WitheringToken;

#[tokio::test]
async fn our_kinds_are_served_and_everybody_has_their_own_rights() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let tokens = |user| Api::<WitheringToken>::namespaced(cluster.client(user), &namespace);
    for user in [User::Admin, User::Operator, User::Editor] {
        assert!(tokens(user).list(&ListParams::default()).await.unwrap().items.is_empty(), "{user:?}");
    }
    let refused = tokens(User::NamespacedOperator).list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Api(status) if status.code == 403));
    cluster.let_operate_in(&namespace);
    assert!(
        tokens(User::NamespacedOperator)
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let elsewhere = Api::<Secret>::namespaced(cluster.client(User::NamespacedOperator), "default");
    assert!(elsewhere.list(&ListParams::default()).await.is_err());
    assert_eq!(
        cluster
            .kubectl_as(User::Operator, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
            .ok(),
        "operator"
    );
}
