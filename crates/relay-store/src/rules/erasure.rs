//! Which ids were erased, and which rows name them.

use sha2::{Digest, Sha256};

use crate::{ErasureSubject, Hint, HintSubject, Look, rows::IdBytes};

/// A hash under which the store remembers an erased id, because the id itself must go.
pub(crate) type ErasureKey = [u8; 32];

/// An erased id, and since when it is erased.
pub(crate) type ErasedKey = (Vec<u8>, i64);

/// The ids whose data an erasure deletes. Basiq writes its ids in both cases, so each is here in its own form, in lower
/// case and in upper case.
#[derive(Debug)]
pub(crate) struct ErasedIds {
    /// The user. Empty if only a connection is erased.
    pub(crate) users: Vec<String>,
    /// The connections: all that are known of the user.
    pub(crate) connections: Vec<String>,
}

impl ErasedIds {
    /// Starts with the id that the operator named.
    pub(crate) fn of(subject: &ErasureSubject) -> Self {
        match subject {
            ErasureSubject::User(user) => Self {
                users: forms(user.as_str()),
                connections: Vec::new(),
            },
            ErasureSubject::Connection(connection) => Self {
                users: Vec::new(),
                connections: forms(connection.as_str()),
            },
        }
    }

    /// Adds connections of the user.
    pub(crate) fn add_connections(&mut self, found: &[String]) {
        let found = found.iter().flat_map(|id| forms(id));
        self.connections.extend(found);
        self.connections.sort_unstable();
        self.connections.dedup();
    }

    /// Returns the keys under which these ids are remembered.
    pub(crate) fn keys(&self) -> Vec<ErasureKey> {
        let users = self.users.iter().map(|user| key("user", user));
        let connections = self.connections.iter().map(|id| connection_key(id));
        let mut keys: Vec<_> = users.chain(connections).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns whether a text mentions one of these ids. An id that is only a part of a longer one does not count.
    pub(crate) fn are_mentioned_in(&self, text: &[u8]) -> bool {
        self.all().any(|id| mentions(text, id.as_bytes()))
    }

    /// Returns the ids, to search texts for them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.users
            .iter()
            .chain(&self.connections)
            .map(String::as_str)
    }
}

fn forms(id: &str) -> Vec<String> {
    let mut forms = vec![
        id.to_owned(),
        id.to_ascii_lowercase(),
        id.to_ascii_uppercase(),
    ];
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn key(kind: &str, id: &str) -> ErasureKey {
    Sha256::digest(format!("{kind}:{}", id.to_ascii_lowercase())).into()
}

/// Returns the key under which a connection is remembered.
pub(crate) fn connection_key(id: &str) -> ErasureKey {
    key("connection", id)
}

fn mentions(text: &[u8], id: &[u8]) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| is_of_an_id(*byte));
    !id.is_empty()
        && text.windows(id.len()).enumerate().any(|(start, part)| {
            let before = start.checked_sub(1).and_then(|place| text.get(place));
            part == id && !is_part(before) && !is_part(text.get(start + id.len()))
        })
}

fn is_of_an_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// Returns how a notice about the erased connection names it, in lower case. A user's notices need no search: they go
/// with the user's subscriptions.
pub(crate) fn connection_in_notice(ids: &ErasedIds) -> Option<String> {
    let connection = ids.connections.first()?;
    let named = format!("\"connectionid\":\"{}\"", connection.to_ascii_lowercase());
    ids.users.is_empty().then_some(named)
}

/// Returns the keys of the person and of the connection that a look found.
pub(crate) fn keys_of_look(look: &Look) -> Vec<ErasureKey> {
    let context = &look.memory.context;
    let user = context.user_id.iter().map(|id| key("user", id));
    let connection = context.connection_id.iter();
    user.chain(connection.map(|id| connection_key(id)))
        .collect()
}

/// Returns the keys of the person and of the connection that a hint is about.
pub(crate) fn keys_of_hint(hint: &Hint) -> Vec<ErasureKey> {
    let (user, connection) = match &hint.subject {
        None => (None, None),
        Some(HintSubject::User(user)) => (Some(user), None),
        Some(HintSubject::Connection {
            connection_id,
            user_id,
        }) => (user_id.as_ref(), Some(connection_id)),
    };
    let user = user.map(|id| key("user", id));
    let connection = connection.map(|id| connection_key(id));
    user.into_iter().chain(connection).collect()
}

/// Returns when the person or the connection of a look was erased, the later time of both.
pub(crate) fn erased_at(look: &Look, erased: &[ErasedKey]) -> Option<i64> {
    let keys = keys_of_look(look);
    let found = erased
        .iter()
        .filter(|(erased, _)| keys.iter().any(|key| key[..] == erased[..]));
    found.map(|(_, at)| *at).max()
}

/// The events of forwarded messages that mention erased ids, among those that may.
pub(crate) fn messages_to_erase(ids: &ErasedIds, found: Vec<(IdBytes, Vec<u8>)>) -> Vec<IdBytes> {
    let found = found.into_iter();
    let meant = found.filter(|(_, body)| ids.are_mentioned_in(body));
    let mut events: Vec<_> = meant.map(|(event, _)| event).collect();
    events.sort_unstable();
    events.dedup();
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(user: &str, connections: &[&str]) -> ErasedIds {
        let mut ids = ErasedIds::of(&ErasureSubject::User(user.parse().unwrap()));
        ids.add_connections(
            &connections
                .iter()
                .map(|id| (*id).to_owned())
                .collect::<Vec<_>>(),
        );
        ids
    }

    #[test]
    fn an_id_is_mentioned_only_as_a_whole_and_in_any_case() {
        let person = person("abc-1", &["C1"]);
        for text in [
            "abc-1",
            "/users/ABC-1/consents",
            "\"abc-1\"",
            "x c1 y",
            "abc-12 abc-1",
        ] {
            assert!(person.are_mentioned_in(text.as_bytes()), "{text}");
        }
        for text in ["", "abc-12", "0abc-1", "abc-1-2", "c12", "abc", "abc-1.x"] {
            assert!(!person.are_mentioned_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn users_and_connections_have_keys_of_their_own_whatever_their_case() {
        let keys = person("a", &["A", "b"]).keys();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys, person("A", &["B", "a"]).keys());
    }
}
