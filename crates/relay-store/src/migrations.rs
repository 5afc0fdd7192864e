//! Migrations that are part of the binary.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Builds the migrator of a database from its migrations: version, description and SQL of each.
///
/// `sqlx::migrate!` would do the same, but sqlx's macros compile both databases a second time, for the build machine.
pub(crate) fn embedded(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = files.iter().map(|&(version, description, sql)| {
        let sql = sql.into_sql_str();
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{postgres, sqlite};

    /// The migrations in a folder, as their files are named: `0001_the_relay.sql`.
    fn in_folder(folder: &str) -> Vec<(i64, String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        let mut found: Vec<_> = files
            .map(|path| {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let (version, description) = name.split_once('_').unwrap();
                let sql = fs::read_to_string(&path).unwrap();
                (version.parse().unwrap(), description.replace('_', " "), sql)
            })
            .collect();
        found.sort();
        found
    }

    fn embedded_in(migrator: &Migrator) -> Vec<(i64, String, String)> {
        let each = migrator.iter().map(|migration| {
            let sql = migration.sql.as_str().to_owned();
            (migration.version, migration.description.to_string(), sql)
        });
        each.collect()
    }

    #[test]
    fn every_file_in_the_folders_of_migrations_is_embedded() {
        for (migrator, folder) in [
            (&*sqlite::open::MIGRATIONS, "src/sqlite/migrations"),
            (&*postgres::migrate::MIGRATIONS, "src/postgres/migrations"),
        ] {
            assert_eq!(embedded_in(migrator), in_folder(folder), "{folder}");
        }
    }
}
