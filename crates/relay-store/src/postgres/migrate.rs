//! Migrates the tables. Each migration runs once, however many relays start together.

use std::{sync::LazyLock, time::Duration};

use sqlx::migrate::Migrator;
use tracing::info;

use crate::{
    StoreError,
    error::{from_migration, is_connection_lost},
    migrations,
    postgres::pool::ConnectionPool,
};

pub(crate) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrations::embedded(&[(
        1,
        "the relay",
        include_str!("migrations/0001_the_relay.sql"),
    )])
});

/// The table of the migrations that ran. Version 0 is the row that a relay locks while it runs migrations.
const TABLE: &str = "CREATE TABLE relay_migrations \
    (version BIGINT PRIMARY KEY, description TEXT NOT NULL, checksum BYTEA NOT NULL)";

const LOCKED_ROW: &str = "INSERT INTO relay_migrations (version, description, checksum) \
    VALUES (0, 'locked while migrations run', '') ON CONFLICT DO NOTHING";

/// How often a relay tries again to create that table when several start together, and how long it waits in
/// between.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the migrations that have not run yet. Migrations that a newer relay ran are left alone, because
/// migrations only add.
pub(super) async fn run(pool: &ConnectionPool) -> Result<(), StoreError> {
    prepare(pool).await?;
    let mut transaction = pool.begin().await?;
    let mut session = transaction.session();
    sqlx::query("SELECT 1 FROM relay_migrations WHERE version = 0 FOR UPDATE")
        .execute(&mut session)
        .await?;
    for migration in MIGRATIONS.iter() {
        let known: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT checksum FROM relay_migrations WHERE version = $1")
                .bind(migration.version)
                .fetch_optional(&mut session)
                .await?;
        match known {
            Some(checksum) if checksum == *migration.checksum => continue,
            Some(_) => {
                let mismatch = sqlx::migrate::MigrateError::VersionMismatch(migration.version);
                return Err(from_migration(mismatch));
            }
            None => {}
        }
        sqlx::raw_sql(migration.sql.clone())
            .execute(&mut session)
            .await?;
        sqlx::query(
            "INSERT INTO relay_migrations (version, description, checksum) VALUES ($1, $2, $3)",
        )
        .bind(migration.version)
        .bind(&*migration.description)
        .bind(&*migration.checksum)
        .execute(&mut session)
        .await?;
        info!(version = migration.version, "the store was migrated");
    }
    transaction.commit().await
}

/// Creates the table of migrations. If several relays create it at the same time, all but one can fail.
async fn prepare(pool: &ConnectionPool) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let made = make_table(pool).await;
        match made {
            Err(failure) if tries < TRIES && !is_connection_lost(&failure) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn make_table(pool: &ConnectionPool) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    let mut session = transaction.session();
    // `IF NOT EXISTS` would make the database send a notice at each start
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('relay_migrations') IS NOT NULL")
        .fetch_one(&mut session)
        .await?;
    if !is_there {
        sqlx::query(TABLE).execute(&mut session).await?;
    }
    sqlx::query(LOCKED_ROW).execute(&mut session).await?;
    transaction.commit().await
}
