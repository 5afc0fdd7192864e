//! Tests of group commit.

use super::*;

fn writer() -> (Writer, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("x.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "foreign_keys", "ON")
        .unwrap();
    let tables = "CREATE TABLE one (n INTEGER PRIMARY KEY); CREATE TABLE two (n INTEGER \
        REFERENCES one DEFERRABLE INITIALLY DEFERRED)";
    connection.execute_batch(tables).unwrap();
    let health = FileHealth::of(&path).unwrap();
    (Writer::start(connection, health).unwrap(), home)
}

async fn write(writer: &Writer, statement: &'static str) -> Result<(), StoreError> {
    let unit = writer.write(move |connection| {
        execute(connection, statement, [])?;
        Ok(())
    });
    unit.await
}

fn twice(connection: &Connection) -> Result<(), StoreError> {
    for _ in 0..2 {
        execute(connection, "INSERT INTO one VALUES (1)", [])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_commit_that_fails_is_told_to_all_and_the_next_one_works() {
    let (writer, _home) = writer();
    let (one, two) = tokio::join!(
        write(&writer, "INSERT INTO one VALUES (1)"),
        // the commit refuses this, not the statement
        write(&writer, "INSERT INTO two VALUES (7)"),
    );
    assert!(matches!(one, Err(StoreError::Refused(_))), "{one:?}");
    assert!(matches!(two, Err(StoreError::Refused(_))), "{two:?}");
    assert_eq!(writer.commits(), 0);
    write(&writer, "INSERT INTO one VALUES (1)").await.unwrap();
    assert_eq!(writer.commits(), 1);
}

#[tokio::test]
async fn a_unit_that_fails_is_undone_alone() {
    let (writer, _home) = writer();
    let half = writer.write(twice);
    let (half, whole) = tokio::join!(half, write(&writer, "INSERT INTO one VALUES (1)"));
    assert!(matches!(half, Err(StoreError::Refused(_))), "{half:?}");
    whole.unwrap();
    assert_eq!(writer.commits(), 1);
}

#[tokio::test]
async fn what_units_before_and_after_one_that_fails_did_is_kept() {
    let (writer, _home) = writer();
    let before = write(&writer, "INSERT INTO one VALUES (5)");
    let after = write(&writer, "INSERT INTO one VALUES (6)");
    let (before, half, after) = tokio::join!(before, writer.write(twice), after);
    assert!(matches!(half, Err(StoreError::Refused(_))), "{half:?}");
    before.and(after).unwrap();
    assert_eq!(writer.commits(), 1);
    let sum = "SELECT sum(n) FROM one";
    let sum = writer.write(|connection| Ok(scalar::<i64>(connection, sum, [])?));
    assert_eq!(sum.await.unwrap(), Some(11));
}

#[tokio::test]
async fn after_a_panic_every_caller_is_told_that_the_store_is_gone() {
    let (writer, _home) = writer();
    let broken = writer.write::<(), _>(|_| panic!("on purpose"));
    let (broken, waiting) = tokio::join!(broken, write(&writer, "DELETE FROM one"));
    let later = write(&writer, "DELETE FROM one").await;
    for answer in [broken, waiting, later] {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
    }
    writer.close().await;
}

#[tokio::test]
async fn a_broken_transaction_gives_the_connection_up_and_opens_another() {
    let (writer, _home) = writer();
    // SQLite itself does the same when a disk fails
    let rolled_back = write(&writer, "ROLLBACK").await;
    assert!(rolled_back.is_err());
    write(&writer, "INSERT INTO one VALUES (1)").await.unwrap();
}
