//! Rows that cannot be read, or that the database refuses: discovery goes on without them.

use std::time::Duration;

use relay_domain::Bank;
use relay_store::{BankLook, Claim, DueList, ListResult, record_bank_looks, record_lists};

use crate::refused_rows::refuse;
use crate::store::contract::{
    banks::job_waits,
    subscriptions::{claim_list, claim_lists, find, found, listed, new_subscription, subscribe},
};
use crate::store::support::{Fixture, at, claim};

/// Returns the claimed list of this person.
fn of<'l>(due: &'l [DueList], user: &str) -> &'l DueList {
    due.iter().find(|due| due.user_id.as_str() == user).unwrap()
}

fn jobs(id: &str) -> ListResult {
    ListResult::Listed(vec![found(id, None, None)])
}

#[tokio::test]
async fn an_unreadable_subscription_is_left_out_and_the_others_find_their_jobs() {
    let fixture = Fixture::new().await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let mut readable = new_subscription(&fixture, "u-1", at(0));
    readable.request.connection_id = "c-1".parse().ok();
    let readable = subscribe(&fixture, readable).await.subscription;
    let other = subscribe(&fixture, new_subscription(&fixture, "u-2", at(0))).await;
    let damage = "UPDATE subscriptions SET locale = '!' \
        WHERE user_id = 'u-1' AND connection_id IS NULL";
    fixture.home.execute(damage).await;

    let store = &fixture.store;
    let active = store.subscriptions_to(&"u-1".parse().unwrap()).await;
    let active: Vec<_> = active.unwrap().iter().map(|one| one.id).collect();
    assert_eq!(active, [readable.id]);
    let due = claim_lists(&fixture, at(1)).await;
    let found = ListResult::Listed(vec![found("j-1", Some("c-1"), None)]);
    let lists = vec![
        listed(of(&due, "u-1"), found, at(1)),
        listed(of(&due, "u-2"), jobs("j-2"), at(1)),
    ];
    assert_eq!(store.record_lists(lists).await.unwrap().watches, 2);
    for id in [readable.id, other.subscription.id] {
        assert_eq!(find(&fixture, id).await.open_watches, 1);
    }
}

#[tokio::test]
async fn an_unreadable_list_is_put_off_and_holds_up_no_other() {
    let fixture = Fixture::new().await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    subscribe(&fixture, new_subscription(&fixture, "u-2", at(1))).await;
    let damage = "UPDATE due_lists SET missing_since = 9000000000000000 WHERE user_id = 'u-1'";
    fixture.home.execute(damage).await;
    let mut claimed = Vec::new();
    for _ in 0..2 {
        let one = Claim {
            limit: 1,
            ..claim(at(2))
        };
        claimed.extend(fixture.store.claim_due_lists(one).await.unwrap());
    }
    let users: Vec<_> = claimed.iter().map(|due| due.user_id.as_str()).collect();
    assert_eq!(users, ["u-2"]);
    let recorded = listed(&claimed[0], jobs("j-2"), at(2) + Duration::from_mins(10));
    fixture.store.record_lists(vec![recorded]).await.unwrap();
    let repair = "UPDATE due_lists SET missing_since = NULL WHERE user_id = 'u-1'";
    fixture.home.execute(repair).await;
    let due = claim_list(&fixture, at(2 + 3600)).await;
    assert_eq!(due.user_id.as_str(), "u-1", "tried again after an hour");
}

#[tokio::test]
async fn a_list_that_the_database_refuses_leaves_those_recorded_with_it_alone() {
    let fixture = Fixture::new().await;
    for user in ["u-1", "u-2", "u-3"] {
        subscribe(&fixture, new_subscription(&fixture, user, at(0))).await;
    }
    let condition = "NEW.job_id = 'j-2'";
    refuse(&fixture.home, "INSERT ON seen_jobs", condition).await;
    let due = claim_lists(&fixture, at(1)).await;
    let lists = [("u-1", "j-1"), ("u-2", "j-2"), ("u-3", "j-3")];
    let lists = lists.map(|(user, job)| listed(of(&due, user), jobs(job), at(1)));
    let recorded = record_lists(&*fixture.store, lists.to_vec()).await;
    assert_eq!(recorded.unwrap().watches, 2);
    assert!(fixture.watches_of("j-2").await.is_empty());
    // the lease of the refused list runs out
    assert!(claim_lists(&fixture, at(30)).await.is_empty());
    assert_eq!(claim_list(&fixture, at(62)).await.user_id.as_str(), "u-2");
}

#[tokio::test]
async fn a_look_at_a_bank_that_the_database_refuses_leaves_the_others_alone() {
    let fixture = Fixture::new().await;
    for (job, bank) in [("j-1", "AU1"), ("j-2", "AU2"), ("j-3", "AU3")] {
        job_waits(&fixture, job, bank).await;
    }
    let condition = "OLD.institution_id = 'AU2'";
    refuse(&fixture.home, "DELETE ON outages", condition).await;
    let due = fixture.store.claim_due_banks(claim(at(600))).await.unwrap();
    let looks = due.into_iter().map(|due| BankLook {
        bank: due.bank,
        lease: due.lease,
        at: at(601),
        next_look_at: None,
    });
    let woken = record_bank_looks(&*fixture.store, looks.collect()).await;
    assert_eq!(woken.unwrap(), 2);
    for (name, is_out) in [("AU1", false), ("AU2", true), ("AU3", false)] {
        let bank = Bank {
            institution_id: name.to_owned(),
            method: "web".to_owned(),
        };
        assert_eq!(fixture.store.is_bank_out(&bank).await.unwrap(), is_out);
    }
}
