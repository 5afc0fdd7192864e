//! A database for one test: a file, or a database on the PostgreSQL server that `tests/run` started.

use basiq_relay::config::{DatabaseUrl, PostgresUrl};
use relay_domain::WatchId;
use sqlx::{
    ConnectOptions, Connection, PgConnection, SqliteConnection, postgres::PgConnectOptions,
};
use tempfile::TempDir;
use uuid::Uuid;

/// A database that is deleted when this value is dropped.
pub(crate) struct TestDatabase {
    pub(crate) url: DatabaseUrl,
    /// A folder for the test's other files.
    pub(crate) folder: TempDir,
    name: Option<String>,
}

/// Returns the SQL literal of a watch's id.
pub(crate) fn literal(id: &str) -> String {
    let id: WatchId = id.parse().unwrap();
    let hex = format!("{:032x}", u128::from_be_bytes(id.to_bytes()));
    if is_postgres() {
        format!("'\\x{hex}'::bytea")
    } else {
        format!("x'{hex}'")
    }
}

/// Returns whether the tests run on PostgreSQL: `TEST_STORE=postgres`.
pub(crate) fn is_postgres() -> bool {
    let word = std::env::var_os("TEST_STORE").unwrap_or_else(|| "sqlite".into());
    assert!(
        word == "sqlite" || word == "postgres",
        "TEST_STORE is {}; sqlite or postgres is allowed",
        word.display()
    );
    word == "postgres"
}

impl TestDatabase {
    /// Creates an empty database of the kind that the tests run on.
    pub(crate) async fn new() -> Self {
        if is_postgres() {
            Self::postgres().await
        } else {
            Self::sqlite()
        }
    }

    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: DatabaseUrl::Sqlite(folder.path().join("relay.db")),
            folder,
            name: None,
        }
    }

    pub(crate) async fn postgres() -> Self {
        Self::made("").await
    }

    /// Creates a PostgreSQL database with this encoding of texts.
    pub(crate) async fn encoded(encoding: &str) -> Self {
        Self::made(&format!(
            "TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        ))
        .await
    }

    async fn made(options: &str) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        run(&format!("CREATE DATABASE {name} {options}")).await;
        let mut url = pooler().unwrap_or_else(server);
        url.set_path(&name);
        Self {
            url: DatabaseUrl::Postgres(PostgresUrl::parse(url.as_str()).unwrap()),
            folder: tempfile::tempdir().unwrap(),
            name: Some(name),
        }
    }

    /// Returns the value for `RELAY_DATABASE_URL`.
    pub(crate) fn setting(&self) -> String {
        setting(&self.url)
    }

    /// Returns everything stored: the files in the folder, and the rows of all PostgreSQL tables.
    pub(crate) async fn stored(&self) -> Vec<(String, Vec<u8>)> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let files = files.map(|path| (path.display().to_string(), std::fs::read(path).unwrap()));
        let mut stored: Vec<_> = files.collect();
        if self.name.is_some() {
            stored.extend(self.rows().await);
        }
        stored
    }

    /// Runs a statement on a connection of its own. Fails if the statement changes no row.
    pub(crate) async fn execute(&self, statement: &str) {
        assert!(self.define(statement).await > 0, "nothing was there");
    }

    /// Runs a statement on a connection of its own. Returns how many rows it changed.
    pub(crate) async fn define(&self, statement: &str) -> u64 {
        self.attempt(statement).await.unwrap()
    }

    /// Runs a statement on a connection of its own, which the database may refuse.
    pub(crate) async fn attempt(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        if self.name.is_some() {
            let mut connection = self.direct().connect().await.unwrap();
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            done.map(|done| done.rows_affected())
        } else {
            let mut connection = SqliteConnection::connect(&self.setting()).await.unwrap();
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            done.map(|done| done.rows_affected())
        }
    }

    async fn rows(&self) -> Vec<(String, Vec<u8>)> {
        let mut connection = self.direct().connect().await.unwrap();
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
        let tables: Vec<String> = sqlx::query_scalar(tables)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert!(
            tables.len() > 10,
            "the tables are somewhere else: {tables:?}"
        );
        let mut rows = Vec::new();
        for table in tables {
            let statement = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
            let texts: Vec<String> = sqlx::query_scalar(statement)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            rows.extend(
                texts
                    .into_iter()
                    .map(|text| (table.clone(), text.into_bytes())),
            );
        }
        rows
    }

    /// Returns the database's name on the server.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().expect("a database of PostgreSQL's")
    }

    /// Sets a parameter for all later connections.
    pub(crate) async fn set(&self, parameter: &str, value: &str) {
        let name = self.name();
        run(&format!("ALTER DATABASE {name} SET {parameter} = {value}")).await;
    }

    /// Returns how relays connect to the database. The database must be PostgreSQL's.
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.setting().parse().unwrap()
    }

    /// Returns how the test connects to the database: directly, even if relays use a pooler.
    pub(crate) fn direct(&self) -> PgConnectOptions {
        let mut url = server();
        url.set_path(self.name());
        url.as_str().parse().unwrap()
    }
}

/// Returns whether the bytes contain the text.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// Formats a database's address as a setting.
pub(crate) fn setting(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
        DatabaseUrl::Postgres(url) => url.expose().to_string(),
    }
}

/// Returns the address of the PostgreSQL server for tests.
pub(crate) fn server() -> url::Url {
    address("TEST_POSTGRES_URL")
        .expect("a test on PostgreSQL; tests/run starts a server and sets TEST_POSTGRES_URL")
}

/// Returns the address of the pooler that relays must use, if there is one.
fn pooler() -> Option<url::Url> {
    address("TEST_POSTGRES_POOLER")
}

fn address(variable: &str) -> Option<url::Url> {
    let url = std::env::var_os(variable)?;
    Some(url.to_str().unwrap().parse().unwrap())
}

/// Runs a statement on the server's default database.
pub(crate) async fn run(statement: &str) {
    let options: PgConnectOptions = server().as_str().parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    let done = sqlx::raw_sql(statement).execute(&mut connection).await;
    done.unwrap();
    PgConnection::close(connection).await.unwrap();
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else {
            return;
        };
        // A new thread has its own runtime, because the test's runtime may be shutting down.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
        });
        let dropped = dropping.join().is_ok();
        assert!(
            dropped || std::thread::panicking(),
            "the test's database could not be dropped"
        );
    }
}
