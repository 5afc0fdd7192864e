//! Tests that the examples of the documentation are what the relay would write.

use relay_domain::EventBody;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::api::{
    admin::{
        AdminDeliveryPage, AdminWatch, AdminWatchPage, AuditPage, ClientList, ErasedData,
        NewClient, NewKey, NewSecret, RetiredSecret, RevokedClient,
    },
    deliveries::DeliveryPage,
    examples,
    health::{Alive, Ready},
    redeliver::{Queued, RedeliveryView},
    watch::{
        batch::BatchView,
        view::{WatchAndStream, WatchPage, WatchView},
    },
};

fn assert_is<T: Serialize + DeserializeOwned>(example: &Value) {
    let value: T = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), *example);
}

#[test]
fn each_example_is_what_the_relay_would_write() {
    assert_is::<WatchView>(&examples::new_watch());
    assert_is::<WatchView>(&examples::watch());
    assert_is::<WatchAndStream>(&examples::new_watch_and_stream());
    assert_is::<WatchAndStream>(&examples::watch_and_stream());
    assert_is::<BatchView>(&examples::batch());
    assert_is::<WatchPage>(&examples::watch_page());
    assert_is::<RedeliveryView>(&examples::redelivery());
    assert_is::<DeliveryPage>(&examples::delivery_page());
    assert_is::<Queued>(&examples::queued());
    assert_is::<Alive>(&examples::alive());
    assert_is::<Ready>(&examples::ready());
    assert_is::<AdminWatch>(&examples::admin_watch());
    assert_is::<AdminWatchPage>(&examples::admin_watch_page());
    assert_is::<AdminDeliveryPage>(&examples::admin_delivery_page());
    assert_is::<AuditPage>(&examples::audit_page());
    assert_is::<ClientList>(&examples::client_list());
    assert_is::<NewClient>(&examples::new_client());
    assert_is::<NewKey>(&examples::new_key());
    assert_is::<NewSecret>(&examples::new_secret());
    assert_is::<ErasedData>(&examples::erased_data());
    assert_is::<RetiredSecret>(&examples::retired_secret());
    assert_is::<RevokedClient>(&examples::revoked_client());
    for (_, event) in examples::events() {
        assert_is::<EventBody>(&event);
    }
}
