//! The audit log belongs to another role than the relay's: the relay adds entries, and can neither change nor delete
//! any.

use jiff::Timestamp;
use relay_domain::{ApiKey, AuditAct, ClientName, SigningSecret};
use relay_store::{
    AuditEntry, AuditQuery, AuditStore, ClientStore, Sealer, UpkeepStore,
    postgres::{LeaseClock, PgStore},
};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::{TestDatabase, actor, database::run};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[tokio::test]
async fn a_relay_without_the_right_to_delete_entries_adds_them_all_the_same() {
    let database = TestDatabase::postgres().await;
    let role = format!("relay_of_{}", database.name());
    run(&format!("CREATE ROLE {role}")).await;
    database
        .define(&format!("ALTER SCHEMA public OWNER TO {role}"))
        .await;
    // a superuser who takes the role has only its rights
    let as_role = database.direct().options([("role", &role)]);
    let store = PgStore::open(as_role.clone(), Sealer::default(), LeaseClock::Caller);
    let store = store.await.unwrap();
    for statement in [
        "ALTER TABLE audit OWNER TO CURRENT_USER".to_owned(),
        "ALTER TABLE audit_horizon OWNER TO CURRENT_USER".to_owned(),
        "ALTER FUNCTION refuse_change_of_audit() OWNER TO CURRENT_USER".to_owned(),
        format!("GRANT SELECT, INSERT ON audit TO {role}"),
        format!("GRANT SELECT ON audit_horizon TO {role}"),
    ] {
        database.define(&statement).await;
    }

    let name: ClientName = "app".parse().unwrap();
    let (key, secret) = (ApiKey::generate().hash(), SigningSecret::generate());
    let added = store.add_client(&name, &key, &secret, actor(), at(0));
    assert!(added.await.unwrap().is_some());
    let new = AuditEntry::new(actor(), AuditAct::LoggedIn, "", at(1));
    store.record_act(new).await.unwrap();
    assert_eq!(store.purge_acts(at(100), 10).await.unwrap(), 0);
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    assert_eq!(store.list_acts(&query).await.unwrap().len(), 2);
    let mut connection = as_role.connect().await.unwrap();
    for statement in [
        "UPDATE audit SET operator = 'bob'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT INTO audit_horizon VALUES (1, 1900000000000)",
        "DROP TRIGGER audit_is_not_changed ON audit",
    ] {
        let refused = sqlx::raw_sql(AssertSqlSafe(statement));
        let refused = refused.execute(&mut connection).await.unwrap_err();
        let said = refused.to_string();
        let is_right = said.contains("permission denied") || said.contains("must be owner");
        assert!(is_right, "{statement}: {said}");
    }
    store.close().await;
    drop(connection);
    drop(database);
    run(&format!("DROP ROLE {role}")).await;
}
