//! Statements of the writer and of the lookups: kept prepared, and each done within one call, on the thread of the
//! connection.

use rusqlite::{
    Connection, Params,
    types::{FromSql, Value, ValueRef},
};

use crate::store::common::{AnyRow, WrongType};

/// What a statement came to.
pub(super) type SqlResult<T> = Result<T, rusqlite::Error>;

/// A row that was read as a whole.
#[derive(Debug)]
pub(super) struct OwnedRow {
    columns: Columns,
    values: Vec<Value>,
}

/// The names of columns, which all rows of a statement share.
type Columns = std::sync::Arc<[Box<str>]>;

/// Runs a statement; says how many rows it changed.
pub(super) fn execute(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<u64> {
    let changed = connection.prepare_cached(statement)?.execute(values)?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

/// Runs a statement with each of these values; says with which of them it changed something.
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

/// All rows that a statement finds.
pub(super) fn fetch_all(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Vec<OwnedRow>> {
    fetch_each(connection, statement, [values])
}

/// All rows that a statement finds with each of these values.
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

/// A value; text that is damaged is none, so that it is named when it is read and does not spoil the other rows.
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

/// The row that a statement finds, if there is one.
pub(super) fn fetch_optional(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Option<OwnedRow>> {
    Ok(fetch_all(connection, statement, values)?.into_iter().next())
}

/// The only column of all rows that a statement finds.
pub(super) fn scalars<T: FromSql>(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Vec<T>> {
    scalars_each(connection, statement, [values])
}

/// The only column of all rows that a statement finds with each of these values.
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

/// The only column of the row that a statement finds, if there is one.
pub(super) fn scalar<T: FromSql>(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> SqlResult<Option<T>> {
    Ok(scalars(connection, statement, values)?.into_iter().next())
}

impl OwnedRow {
    fn value(&self, column: &str) -> Result<&Value, WrongType> {
        let place = self.columns.iter().position(|name| **name == *column);
        place
            .and_then(|place| self.values.get(place))
            .ok_or(WrongType)
    }
}

impl AnyRow for OwnedRow {
    fn text(&self, column: &str) -> Result<Option<&str>, WrongType> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            _ => Err(WrongType),
        }
    }

    fn whole(&self, column: &str) -> Result<Option<i64>, WrongType> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Integer(number) => Ok(Some(*number)),
            _ => Err(WrongType),
        }
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, WrongType> {
        Ok(self.whole(column)?.map(|number| number != 0))
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, WrongType> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes)),
            _ => Err(WrongType),
        }
    }
}
