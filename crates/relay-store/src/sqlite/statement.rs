//! Runs the statements of the writer and of the lookups. Each statement stays prepared, and runs within one call on
//! the connection's thread.

use rusqlite::{
    Connection, Params,
    types::{FromSql, Value, ValueRef},
};

use crate::rows::{AnyRow, WrongColumnType};

/// The result of a statement.
pub(super) type SqlResult<T> = Result<T, rusqlite::Error>;

/// A row with all its values, which outlives the statement.
#[derive(Debug)]
pub(super) struct OwnedRow {
    columns: Columns,
    values: Vec<Value>,
}

/// The names of columns, shared by all rows of a statement.
type Columns = std::sync::Arc<[Box<str>]>;

/// Runs a statement. Returns the number of rows that it changed.
pub(super) fn execute(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<u64> {
    let changed = connection.prepare_cached(statement)?.execute(values)?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

/// Runs a statement once for each set of values. Returns for each whether it changed something.
pub(super) fn execute_each<P: Params>(
    connection: &Connection,
    statement: &str,
    each: impl IntoIterator<Item = P>,
) -> SqlResult<Vec<bool>> {
    let mut statement = connection.prepare_cached(statement)?;
    let changed = each
        .into_iter()
        .map(|values| Ok(statement.execute(values)? > 0));
    changed.collect()
}

/// Returns all rows that a statement finds.
pub(super) fn fetch_all(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Vec<OwnedRow>> {
    fetch_each(connection, statement, [values])
}

/// Returns all rows that a statement finds with each set of values.
pub(super) fn fetch_each<P: Params>(
    connection: &Connection,
    statement: &str,
    each: impl IntoIterator<Item = P>,
) -> SqlResult<Vec<OwnedRow>> {
    let mut statement = connection.prepare_cached(statement)?;
    let columns: Columns = statement
        .column_names()
        .into_iter()
        .map(Box::from)
        .collect();
    let mut records = Vec::new();
    for values in each {
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            let values = (0..columns.len()).map(|column| Ok(value(row.get_ref(column)?)));
            records.push(OwnedRow {
                columns: Columns::clone(&columns),
                values: values.collect::<SqlResult<_>>()?,
            });
        }
    }
    Ok(records)
}

/// Converts a value. Damaged text becomes a blob: reading it as text then names the row, and other rows stay usable.
fn value(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(text.to_vec()),
        },
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// Returns the first row that a statement finds, if there is one.
pub(super) fn fetch_optional(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Option<OwnedRow>> {
    Ok(fetch_all(connection, statement, values)?.into_iter().next())
}

/// Returns the only column of all rows that a statement finds.
pub(super) fn scalars<T: FromSql>(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Vec<T>> {
    scalars_each(connection, statement, [values])
}

/// Returns the only column of all rows that a statement finds with each set of values.
pub(super) fn scalars_each<T: FromSql, P: Params>(
    connection: &Connection,
    statement: &str,
    each: impl IntoIterator<Item = P>,
) -> SqlResult<Vec<T>> {
    let mut statement = connection.prepare_cached(statement)?;
    let mut found = Vec::new();
    for values in each {
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

/// Returns the only column of the first row that a statement finds, if there is one.
pub(super) fn scalar<T: FromSql>(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Option<T>> {
    Ok(scalars(connection, statement, values)?.into_iter().next())
}

impl OwnedRow {
    fn value(&self, column: &str) -> Result<&Value, WrongColumnType> {
        let place = self.columns.iter().position(|name| **name == *column);
        place
            .and_then(|place| self.values.get(place))
            .ok_or(WrongColumnType)
    }
}

impl AnyRow for OwnedRow {
    fn text(&self, column: &str) -> Result<Option<&str>, WrongColumnType> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            _ => Err(WrongColumnType),
        }
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, WrongColumnType> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Integer(number) => Ok(Some(*number)),
            _ => Err(WrongColumnType),
        }
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, WrongColumnType> {
        Ok(self.integer(column)?.map(|number| number != 0))
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, WrongColumnType> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes)),
            _ => Err(WrongColumnType),
        }
    }
}
