//! Every statement of the store, with values that occur in the tables that `fill.sql` fills.

use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryState, WatchState};
use sqlx::{Postgres, QueryBuilder};

use super::{
    activity_statements, clock_statements, delivery_statements, erasure_statements,
    subscription_statements,
};
use crate::{
    DeliveryQuery, SubscriptionQuery, WatchQuery,
    postgres::{
        alerts, answers, audit, banks, clients, console, delivery_lists, details, durations, fleet,
        follows, hints, host_pauses, hosts, jobs, looks, registration, subscriptions, upkeep,
        watches,
    },
};

/// A statement whose plan is tested.
#[derive(Clone)]
pub(super) struct PlannedStatement {
    pub(super) name: String,
    pub(super) sql: String,
    /// The values of its parameters, as SQL.
    pub(super) values: String,
    /// The number of rows that the statement finds or writes.
    pub(super) rows: u64,
}

impl PlannedStatement {
    /// Returns the argument list for `EXECUTE`, which is empty for a statement without parameters.
    pub(super) fn arguments(&self) -> String {
        match self.values.as_str() {
            "" => String::new(),
            values => format!("({values})"),
        }
    }

    /// Whether the statement finds due work. Each relay runs such a statement again and again.
    pub(super) fn is_claim(&self) -> bool {
        let claims = [
            "jobs::LEASE",
            "discovery::LEASE",
            "outbox::DUE",
            "outbox::NEXT_DUE",
        ];
        claims.contains(&self.name.as_str())
    }

    /// Whether the statement runs seldom, for a search or for clean-up. An old plan of such a statement need not
    /// use its index, until PostgreSQL analyses the tables again.
    pub(super) fn is_rare(&self) -> bool {
        let rare = [
            "console::SEARCH",
            "console::BY_PREFIX",
            "deliveries::LOCK_DEAD",
            "deliveries::LOCK_DEAD_SUBSCRIPTIONS",
            "deliveries::REQUEUE_DEAD",
            "hosts::LIFT",
            "durations::FORGET",
            "watches::ALL_OF_CLIENT",
        ];
        rare.contains(&self.name.as_str()) || self.name.contains("Query {")
    }

    /// Whether the statement looks for rows among all pending events.
    pub(super) fn reads_outbox(&self) -> bool {
        let reads = ["upkeep::COUNTS", "watches::ALL_OF_CLIENT"];
        reads.contains(&self.name.as_str()) || self.name.contains("state: Pending")
    }

    /// Whether the statement runs outside a transaction. No setting of a transaction then keeps it to its
    /// indexes.
    pub(super) fn is_alone(&self) -> bool {
        let alone = [
            "banks::NEXT_DUE",
            "banks::IS_OUT",
            "discovery::NEXT_DUE",
            "answers::END",
            "clients::FIND_BY_KEY",
            "jobs::FAILURES",
            "jobs::NEXT_DUE",
        ];
        let shared = [
            "fleet::",
            "clock_step::NOTE",
            "clock_step::UPSTREAM",
            "clock_step::END",
        ];
        let is_shared = |start: &&str| self.name.starts_with(start);
        alone.contains(&self.name.as_str()) || shared.iter().any(is_shared)
    }
}

/// The length of one page of a list.
const PAGE: usize = 50;

/// An id from the middle of the tables.
const MIDDLE: &str = "id(700000)";

/// An id in a query. Its place in the statement gets [`MIDDLE`].
const ANY_ID: [u8; 16] = [0; 16];

/// The number of open watches, and a few more. All are newer than those that have ended.
const OPEN: usize = 102_000;

/// The number of pending events. Most are newer than those that have ended.
const PENDING: usize = 6000;

macro_rules! statements {
    ($($rows:literal of $module:ident::$name:ident($values:literal);)*) => {
        vec![$(PlannedStatement {
            name: concat!(stringify!($module), "::", stringify!($name)).to_owned(),
            sql: $module::$name.to_owned(),
            values: $values.to_owned(),
            rows: $rows,
        }),*]
    };
}
pub(super) use statements;

/// Returns all statements. Of the module `clients`, whose table is small, only the one that every request runs.
pub(super) fn all() -> Vec<PlannedStatement> {
    let mut all = lists();
    all.extend(of_jobs());
    all.extend(of_watches());
    all.extend(delivery_statements::of_deliveries());
    all.extend(subscription_statements::of_subscriptions());
    all.extend(erasure_statements::of_erasures());
    all.extend(activity_statements::of_activity());
    all.extend(of_small_tables());
    all.extend(clock_statements::of_clock_steps());
    all
}

fn of_jobs() -> Vec<PlannedStatement> {
    statements! {
        400 of jobs::WAITING("1800000000000, 100");
        100 of jobs::LEASE("1800000000000, id(1), 30000, 40, 20, 20, 20");
        100 of jobs::OPEN_WATCHES("jobs(930000, 100)");
        1 of jobs::PUT_OFF("jobs(930000, 1), 1800000000000");
        1 of jobs::NEXT_DUE("");
        1 of jobs::FAILURES("'connection-30000', 'job-1', 1799900000000");
        100 of looks::HOLD("jobs(930000, 100), bytes(id(7), 100)");
        // one job with a thousand watches
        1000 of looks::CHANGE_WATCHES("ids(1000001, 1000), texts('job-0925000', 1000), \
            texts('settled', 1000), texts('{}', 1000), numbers(1800000000000, 1000)");
        100 of looks::CHANGE_WATCHES("ids(930000, 100), watched_jobs(930000, 100), \
            texts('awaiting-user', 100), texts('{}', 100), numbers(1800000000000, 100)");
        100 of looks::SUPERSEDE("ids(995000, 100), ids(2000000, 100), numbers(1800000000000, 100)");
        100 of looks::ADD_EVENTS("ids(2000000, 100), ids(930000, 100), numbers(1, 100), \
            texts('host1.example', 100), texts('{}', 100), numbers(1800000000000, 100), \
            numbers(NULL, 100), bytes(id(7), 100), 1800000000000, 30000");
        100 of looks::BLOCKERS("ARRAY['host1.example'], ids(995000, 100), 1800000000000");
        1 of looks::SECRETS("ARRAY[1]::bigint[]");
        110 of looks::RECORD_JOBS("jobs(930000, 100), texts('{}', 100), \
            numbers(1799999999000, 100), numbers(1800000000000, 100), numbers(1800000009000, 100), numbers(3, 100), \
            array_fill(FALSE, ARRAY[100]), texts(NULL, 100), texts(NULL, 100), \
            texts('user-1', 100), texts('connection-1', 100), \
            '{connection-30000,connection-30001}'");
        1 of looks::ADD_FAILURES("'{connection-30000}', '{job-1}', '{1800000000000}'");
        1 of hints::REMEMBER("'a new one', 1800000000000");
        10 of hints::FORGET("1799900000000");
        1 of hints::OF_CONNECTION("'connection-470000', 500");
        4 of hints::OF_USER("'user-235000', 500");
        1 of hints::OF_USER_ALONE("'user-235000', 500");
        4 of hints::DUE("jobs(930000, 4), 1800000000000, 10000");
    }
}

fn of_watches() -> Vec<PlannedStatement> {
    statements! {
        3 of registration::SHARE_CLIENTS("'{1,2,3}'");
        3 of registration::LOCK_CLIENTS("'{1,2,3}'");
        600 of registration::CLIENTS("'{1,2,3}'");
        512 of registration::OPEN_WATCHES("jobs(930000, 512), numbers(2, 512), \
            texts('https://host1.example/hooks', 512)");
        512 of registration::RESTING("jobs(900000, 512)");
        512 of registration::ADD_JOBS("jobs(999900, 512), numbers(1800000000000, 512), \
            texts('{}', 512), bytes(id(7), 512), 1800000000000, 30000");
        512 of registration::ADD_WATCHES("ids(2000000, 512), numbers(1, 512), jobs(901000, 512), \
            texts('https://host1.example/hooks', 512), texts('host1.example', 512), \
            texts(NULL, 512), numbers(15, 512), texts(NULL, 512), texts('en', 512), \
            texts('{}', 512), texts('watching', 512), texts('{}', 512), \
            numbers(1800000000000, 512), texts(NULL, 512), bytes(NULL, 512)");
        1 of registration::OWN("id(930000)");
        1 of details::ONE("id(930000), NULL");
        200 of details::MANY("ids(930001, 200)");
        1 of follows::OWNER("id(930000)");
        800 of follows::VERSIONS("ids(930001, 200)");
        200 of follows::EARLIER("jobs(930000, 200), numbers(1800000000000, 200)");
        50 of details::EVENTS("ids(930001, 50)");
        6 of console::SEARCH("'user-235000', id(9999999), 51");
        51 of console::SEARCH("'host1.example', id(700000), 51");
        51 of console::SEARCH("'job-0925000', id(9999999), 51");
        4000 of console::HOSTS("100, 1000");
        200 of console::BY_PREFIX("'user-2350', 'user-2350~', 200");
        200 of console::BY_PREFIX("'connection-4700', 'connection-4700~', 200");
        200 of console::BY_PREFIX("'job-09250', 'job-09250~', 200");
        200 of console::BY_PREFIX("'host1.exam', 'host1.exam~', 200");
        2 of console::NOTICES("id(50000), 50");
        20 of console::WAITING("'{host1.example}', 20");
        100 of watches::LOCK_JOBS("jobs(930000, 100)");
        1 of watches::OWN("id(930000), 1");
        100 of watches::CANCEL_WATCHES("ids(930000, 100), 1800000000000");
        100 of watches::LOCK_QUEUED("ids(995000, 100)");
        100 of watches::LOCK_WATCHES("ids(995000, 100)");
        100 of watches::CANCEL_EVENTS("ids(995000, 100), 1800000000000");
        100 of watches::REST_JOBS("jobs(930000, 100)");
        // as many as there are pending events: the outbox has no index by client
        6000 of watches::ALL_OF_CLIENT("7");
        1 of answers::LOCK("id(930000), 75");
        1 of answers::FIND("id(930000), 75");
        1 of answers::CLAIM("'job-0930000', 1800000000000, 1");
        1 of answers::END("'job-0930000', NULL, 1800000000000");
    }
}

fn of_small_tables() -> Vec<PlannedStatement> {
    statements! {
        1 of banks::FORGET_UNWAITED("ARRAY['AU00001'], id(1)");
        1 of banks::LEASE("1800000000000, 10, id(1), 30000");
        1 of banks::LOOK_AGAIN("'AU00001', 'web', id(1), 1800000000000");
        1 of banks::END("'AU00001', 'web', id(1)");
        300 of banks::WAKE_JOBS("'AU00001', 'web', 1800000000000");
        1 of banks::BEGIN("'AU00001', 'web', 1800000000000");
        1 of banks::NEXT_DUE("");
        1 of banks::IS_OUT("'AU00001', 'web'");
        1 of audit::ADD("id(2000000), 1800000000000, 'alice', 'logged-in', '', '192.0.2.7'");
        50 of audit::LIST("id(9999999), 50");
        50 of audit::OF_OPERATOR("id(9999999), 50, 'operator7'");
        50 of audit::OF_ACT("id(9999999), 50, 'watch-cancelled'");
        50 of audit::OF_BOTH("id(9999999), 50, 'operator7', 'watch-cancelled'");
        1 of audit::ANY_BEFORE("id(100)");
        1 of audit::MOVE_HORIZON("1798000000000");
        100 of audit::PURGE("id(101), 200");
        1 of clients::FIND_BY_KEY("sha256('7')");
        1 of fleet::BEAT("'relay1'");
        1 of fleet::ALIVE("5000");
        1 of fleet::LEAVE("'relay1'");
        1 of fleet::FORGET("600000");
        1 of fleet::RESERVE("10, 50000, 1000000");
        1 of fleet::PAUSE("429, 1000000");
        1 of fleet::TOKEN("'key'");
        1 of fleet::CLAIM_TOKEN("'key', 15000");
        1 of fleet::KEEP_TOKEN("'key', 'token', 1800000000000, 1800000000000");
        1 of fleet::RELEASE_TOKEN("'key'");
        1 of hosts::FAILED("'host1.example', 1800000000000, 10, 5000, 4");
        2 of hosts::ANSWERED("'{host1.example,host30.example}'");
        2 of hosts::PROBE("'{host1.example,host30.example}', 1800000000000, 30000");
        1 of hosts::LIFT("1800000000000");
        1 of alerts::REMEMBER("'host-paused', 'host2.example', 1800000000000");
        1 of alerts::FORGET("'host-paused', 'host2.example'");
        21 of alerts::LIST("");
        1 of host_pauses::PAUSE("'host9.example', 1800000000000, 'alice'");
        1 of host_pauses::RESUME("'host2.example'");
        1 of host_pauses::LIFT("'host2.example'");
        // counts up to a thousand of what waits for each host
        4000 of host_pauses::LIST("100, 1000");
        3 of host_pauses::OF_HOSTS("'{host1.example,host2.example,host30.example}', 1800000000000");
        14 of upkeep::PAUSED_HOSTS("1800000000000, 20");
        // one host has more than half of all that waits
        4000 of hosts::WAITING("1800000000000, 1799990000000, 100");
        200 of hosts::GIVE_UP("ids(995000, 100), 1800000000000, 1800000000000");
        2 of durations::FIND("ARRAY[NULL], ARRAY[7], ARRAY['connection-7'], ARRAY['1']");
        2 of durations::KNOWN("ARRAY['AU00001', ''], texts('1', 2)");
        2 of durations::KEEP("ARRAY['AU00001', ''], texts('1', 2), texts('{}', 2), texts(NULL, 2), \
            numbers(NULL, 2), numbers(1800000000000, 2)");
        1 of durations::FORGET("2000");
        3 of durations::REMEMBER_BANKS("'{7,8,9}', texts('connection-7', 3), texts('AU00009', 3), bytes(id(7), 3)");
    }
}

/// Returns the statements that list rows, one for each combination of filters.
pub(super) fn lists() -> Vec<PlannedStatement> {
    let mut lists = Vec::new();
    for owner in [None, Some(ClientId(1)), Some(ClientId(7))] {
        for state in [None, Some(WatchState::Settled), Some(WatchState::Watching)] {
            for chosen in 0..4 {
                lists.push(of_watches_like(&WatchQuery {
                    owner,
                    job_id: (chosen & 1 != 0).then(|| "job-0930000".parse().unwrap()),
                    state,
                    before: (chosen & 2 != 0).then(|| ANY_ID.into()),
                    limit: PAGE,
                }));
            }
        }
        for state in [
            DeliveryState::Dead,
            DeliveryState::Delivered,
            DeliveryState::Pending,
        ] {
            let updated_at = Timestamp::from_millisecond(1_799_500_000_000).unwrap();
            for after in [None, Some((updated_at, ANY_ID.into()))] {
                lists.push(of_deliveries_like(&DeliveryQuery {
                    owner,
                    state,
                    after,
                    limit: PAGE,
                }));
            }
        }
    }
    for chosen in 0..8 {
        lists.push(of_subscriptions_like(&SubscriptionQuery {
            owner: (chosen & 1 != 0).then_some(ClientId(1)),
            user_id: (chosen & 2 != 0).then(|| "user-50000".parse().unwrap()),
            before: (chosen & 4 != 0).then(|| ANY_ID.into()),
            limit: PAGE,
        }));
    }
    lists
}

fn of_subscriptions_like(query: &SubscriptionQuery) -> PlannedStatement {
    let owner = query.owner.map(|owner| owner.0.to_string());
    let user = query.user_id.as_ref().map(|user| format!("'{user}'"));
    let before = query.before.map(|_| "id(60000)".to_owned());
    let values = vec![owner, user, before, Some(PAGE.to_string())];
    let statement = subscriptions::list(query);
    list(format!("{query:?}"), &statement, values, PAGE)
}

fn of_watches_like(query: &WatchQuery) -> PlannedStatement {
    let owner = query.owner.map(|owner| owner.0.to_string());
    let state = query.state.map(|state| format!("'{}'", state.as_str()));
    let job = query.job_id.as_ref().map(|job| format!("'{job}'"));
    let before = query.before.map(|_| MIDDLE.to_owned());
    let (page, is_rare) = (
        Some(PAGE.to_string()),
        query.state == Some(WatchState::Watching) && query.job_id.is_none(),
    );
    let values = if is_rare {
        vec![state, before, page.clone(), owner, page]
    } else {
        vec![owner, job, state, before, page]
    };
    let rows = match query.state {
        // the newest of each client
        Some(WatchState::Watching) if query.owner.is_none() => 100 * PAGE,
        // among the open watches, which are newer
        Some(WatchState::Settled) if query.before.is_none() && query.job_id.is_none() => OPEN,
        _ => PAGE,
    };
    list(format!("{query:?}"), &watches::list(query), values, rows)
}

fn of_deliveries_like(query: &DeliveryQuery) -> PlannedStatement {
    let owner = query.owner.map(|owner| owner.0.to_string());
    let state = format!("'{}'", query.state.as_str());
    let (page, id) = (
        Some(PAGE.to_string()),
        query.after.map(|_| MIDDLE.to_owned()),
    );
    let (values, rows) = match query.state {
        // those of one client are found among all
        DeliveryState::Pending => (vec![owner, id, page], PENDING),
        DeliveryState::Delivered => (vec![owner, id.clone(), id, page], PENDING),
        DeliveryState::Dead
        | DeliveryState::Expired
        | DeliveryState::Superseded
        | DeliveryState::Cancelled => {
            let since = query.after.map(|(at, _)| at.as_millisecond().to_string());
            let values = vec![Some(state), since, id, page.clone(), owner.clone(), page];
            // the newest of each client
            (values, if owner.is_none() { 100 * PAGE } else { PAGE })
        }
    };
    // the lists of notices are like those of the events of watches
    let statement = delivery_lists::list_statements(query).remove(0);
    list(format!("{query:?}"), &statement, values, rows)
}

/// Builds a statement from the values of the filters that are used.
fn list(
    name: String,
    statement: &QueryBuilder<Postgres>,
    values: Vec<Option<String>>,
    rows: usize,
) -> PlannedStatement {
    let values: Vec<_> = values.into_iter().flatten().collect();
    PlannedStatement {
        name,
        sql: statement.sql().as_str().to_owned(),
        values: values.join(", "),
        rows: rows as u64,
    }
}
