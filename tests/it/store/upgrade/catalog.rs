//! The parts of a database's tables, and the changes that a migration may make to them.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

/// Selects all parts of tables. `harmless` marks a new part that an older version tolerates on its own tables.
const PARTS: &str = "\
    SELECT 'table' AS kind, c.relname AS of, '' AS name, c.relkind::text || c.relpersistence::text AS made, \
        TRUE AS harmless \
    FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relnamespace = 'public'::regnamespace \
    UNION ALL \
    SELECT 'column', table_name, column_name, \
        concat_ws(' ', data_type, collation_name, 'null: ' || is_nullable, 'generated: ' || is_generated, \
            generation_expression, identity_generation), \
        is_nullable = 'YES' OR column_default IS NOT NULL OR is_generated = 'ALWAYS' OR is_identity = 'YES' \
    FROM information_schema.columns WHERE table_schema = 'public' \
    UNION ALL \
    SELECT 'default', table_name, column_name, column_default, TRUE \
    FROM information_schema.columns WHERE table_schema = 'public' AND column_default IS NOT NULL \
    UNION ALL \
    SELECT 'index', x.tablename, x.indexname, x.indexdef, NOT i.indisunique \
    FROM pg_indexes x JOIN pg_index i ON i.indexrelid = quote_ident(x.indexname)::regclass \
    WHERE x.schemaname = 'public' \
    UNION ALL \
    SELECT 'constraint', c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid), FALSE \
    FROM pg_constraint c WHERE c.connamespace = 'public'::regnamespace AND c.contype <> 'n' \
    UNION ALL \
    SELECT 'trigger', t.tgrelid::regclass::text, t.tgname, pg_get_triggerdef(t.oid), FALSE \
    FROM pg_trigger t WHERE NOT t.tgisinternal \
    UNION ALL \
    SELECT 'rule', tablename, rulename, definition, FALSE FROM pg_rules WHERE schemaname = 'public' \
    UNION ALL \
    SELECT 'function', '', p.proname, pg_get_functiondef(p.oid), TRUE \
    FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'";

/// A part: its kind, its table, and its name.
type Key = (String, String, String);

#[derive(Debug, PartialEq)]
struct Part {
    made: String,
    harmless: bool,
}

/// The parts of a database's tables.
#[derive(Debug, PartialEq)]
pub(crate) struct Catalog(BTreeMap<Key, Part>);

impl Catalog {
    pub(crate) async fn read(connection: &mut PgConnection) -> Self {
        let rows = sqlx::query(PARTS).fetch_all(connection).await.unwrap();
        let parts = rows.iter().map(|row| {
            let text = |column| row.try_get_unchecked::<String, _>(column).unwrap();
            let part = Part {
                made: text("made"),
                harmless: row.get("harmless"),
            };
            ((text("kind"), text("of"), text("name")), part)
        });
        Self(parts.collect())
    }

    /// Returns the tables with their columns.
    pub(crate) fn tables(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (kind, of, name) in self.0.keys() {
            if kind == "column" {
                tables.entry(of.as_str()).or_default().push(name.as_str());
            }
        }
        tables
    }

    fn has_table(&self, name: &str) -> bool {
        let table = ("table".to_owned(), name.to_owned(), String::new());
        self.0.contains_key(&table)
    }

    /// Returns the changes to these tables that the version made for them cannot tolerate. Parts in `exempt` are left
    /// out.
    pub(crate) fn breaches(&self, later: &Self, exempt: &[&str]) -> Vec<String> {
        let mut breaches = Vec::new();
        for (key, part) in &self.0 {
            let name = name(key);
            match later.0.get(key) {
                _ if exempt.contains(&name.as_str()) => {}
                None => breaches.push(format!("{name} is gone")),
                Some(new) if new.made == part.made => {}
                Some(new) => breaches.push(format!("{name} was {}, now {}", part.made, new.made)),
            }
        }
        for (key, part) in later.0.iter().filter(|(key, _)| !self.0.contains_key(*key)) {
            let (kind, of, _) = key;
            let name = name(key);
            let is_breach = if exempt.contains(&name.as_str()) {
                false
            } else if self.has_table(of) {
                !part.harmless
            } else {
                kind == "constraint" && self.is_held_by(&part.made)
            };
            if is_breach {
                breaches.push(format!("{name} is new: {}", part.made));
            }
        }
        breaches
    }

    /// Returns whether a foreign key would prevent deletions from these tables.
    fn is_held_by(&self, constraint: &str) -> bool {
        let Some((_, target)) = constraint.split_once(" REFERENCES ") else {
            return false;
        };
        let table = target.split('(').next().unwrap_or_default();
        let lets_go = ["ON DELETE CASCADE", "ON DELETE SET NULL"];
        self.has_table(table) && !lets_go.iter().any(|how| target.contains(how))
    }
}

fn name((kind, of, name): &Key) -> String {
    let dot = if of.is_empty() || name.is_empty() {
        ""
    } else {
        "."
    };
    format!("{kind} {of}{dot}{name}")
}
