//! Damaged pages: the relay reports them, and work on intact rows continues.

use std::{collections::BTreeSet, fs, time::Instant};

use futures_util::future::join_all;
use reqwest::Method;
use sqlx::{Connection, SqliteConnection};

use super::{PATIENCE, Place, messages};

const WATCHES: usize = 240;

/// The bytes of a database file, and the size of its pages.
struct Pages {
    bytes: Vec<u8>,
    size: usize,
}

impl Pages {
    fn read(place: &Place) -> Self {
        let bytes = fs::read(place.file()).unwrap();
        let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        Self { bytes, size }
    }

    fn page(&self, number: u32) -> &[u8] {
        let at = (number as usize - 1) * self.size;
        &self.bytes[at..at + self.size]
    }

    /// Returns the leaf pages of a tree, from first to last.
    fn leaves(&self, root: u32) -> Vec<u32> {
        let page = self.page(root);
        let is_inner = matches!(page[0], 2 | 5);
        if !is_inner {
            return vec![root];
        }
        let word = |at: usize| u32::from_be_bytes(page[at..at + 4].try_into().unwrap());
        let half = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
        let cells = (0..half(3)).map(|cell| half(12 + 2 * cell));
        let children = cells.map(word).chain([word(8)]);
        children.flat_map(|child| self.leaves(child)).collect()
    }

    fn zero(&mut self, number: u32) {
        let at = (number as usize - 1) * self.size;
        self.bytes[at..at + self.size].fill(0);
    }
}

/// Runs a relay with watches of running jobs, stops it, and then ends the jobs. Returns the root page of each table
/// and index.
async fn stopped_with_watches(place: &Place) -> Vec<(String, u32)> {
    let relay = place.setup.start().await;
    let jobs: Vec<_> = (0..WATCHES).map(|n| format!("job-{n:03}")).collect();
    for job in &jobs {
        place.run_job(job);
    }
    let registered = join_all(jobs.iter().map(|job| place.watch(&relay, job))).await;
    assert!(registered.iter().all(|answer| answer.status() == 202));
    assert_eq!(relay.terminate().await.0, Some(0));
    let url = place.database.setting();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let roots = "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0";
    let roots = sqlx::query_as(roots)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    for job in &jobs {
        place.end_job(job);
    }
    roots
}

fn root_of(roots: &[(String, u32)], name: &str) -> u32 {
    roots.iter().find(|(tree, _)| tree == name).unwrap().1
}

/// Returns a leaf page in the middle of its tree.
fn middle_leaf(pages: &Pages, root: u32) -> u32 {
    let leaves = pages.leaves(root);
    assert!(leaves.len() > 1, "there are too few pages");
    leaves[leaves.len() / 2]
}

/// Starts the relay on the damaged file. Checks that it reports the damage, refuses new watches, and delivers the
/// events of all jobs except `spared`.
async fn says_so_and_tells_the_others(place: &Place, spared: &BTreeSet<String>, case: &str) {
    let relay = place.setup.start().await;
    place.until_ready_says(&relay, 503).await;
    assert_eq!(place.ready(&relay).await.1, "damaged", "{case}");
    let refused = place.watch(&relay, "job-new").await;
    assert_eq!(refused.status(), 503, "{case}");
    assert_eq!(refused.headers()["retry-after"], "5", "{case}");
    let began = Instant::now();
    let all: BTreeSet<_> = (0..WATCHES).map(|n| format!("job-{n:03}")).collect();
    let whole = || all.difference(spared).cloned().collect::<BTreeSet<_>>();
    while !place.told().is_superset(&whole()) {
        let left: Vec<_> = whole().difference(&place.told()).cloned().collect();
        assert!(began.elapsed() < PATIENCE, "{case}: not told: {left:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let metrics = place.call(&relay, Method::GET, "/metrics").await;
    let metrics = metrics.text().await.unwrap();
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("relay_store_damage_total "));
    assert_ne!(counted, None, "{case}");
    assert_ne!(counted, Some("0"), "{case}");
    let errors = messages(&relay.terminate().await.1, "ERROR");
    let named: Vec<_> = errors
        .iter()
        .filter(|message| message.contains("the database is damaged"))
        .collect();
    assert!(
        named.iter().any(|message| message.contains(".recover")),
        "{case}: {errors:?}"
    );
}

/// Returns the jobs whose names occur on a page.
fn named_on(page: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(page);
    let named = text.match_indices("job-");
    named
        .filter_map(|(at, _)| text.get(at..at + 7).map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn a_damaged_page_of_watches_is_named_nothing_new_is_taken_and_whole_watches_are_told() {
    let place = Place::new().await;
    let roots = stopped_with_watches(&place).await;
    let mut pages = Pages::read(&place);
    let leaf = middle_leaf(&pages, root_of(&roots, "watches"));
    let lost = named_on(pages.page(leaf));
    assert!(!lost.is_empty() && lost.len() < WATCHES / 2, "{lost:?}");
    pages.zero(leaf);
    fs::write(place.file(), &pages.bytes).unwrap();
    says_so_and_tells_the_others(&place, &lost, "watches").await;
}

/// The names on an index's page are unknown, but most entries are on other pages.
#[tokio::test]
async fn a_damaged_page_of_any_table_or_index_leaves_most_watches_to_be_told() {
    let trees = ["jobs", "watches_open", "watches_unsettled"];
    join_all(trees.map(async |tree| {
        let place = Place::new().await;
        let roots = stopped_with_watches(&place).await;
        let mut pages = Pages::read(&place);
        pages.zero(middle_leaf(&pages, root_of(&roots, tree)));
        fs::write(place.file(), &pages.bytes).unwrap();
        let relay = place.setup.start().await;
        place.until_ready_says(&relay, 503).await;
        assert_eq!(place.ready(&relay).await.1, "damaged", "{tree}");
        assert_eq!(place.watch(&relay, "job-new").await.status(), 503);
        let began = Instant::now();
        while place.told().len() < WATCHES / 3 {
            let told = place.told().len();
            assert!(began.elapsed() < PATIENCE, "{tree}: {told} were told");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        relay.terminate().await;
    }))
    .await;
}

/// Whatever pages are damaged: each watch gets its event, or the relay reports that the file is damaged.
#[tokio::test]
async fn with_pages_damaged_at_random_no_watch_is_left_untold_in_silence() {
    let place = Place::new().await;
    stopped_with_watches(&place).await;
    let whole = fs::read(place.file()).unwrap();
    for round in 0..4_usize {
        let mut pages = Pages {
            bytes: whole.clone(),
            ..Pages::read(&place)
        };
        let count = pages.bytes.len() / pages.size;
        for n in 0..3 {
            // The first page stays, because without it the file is not a database.
            let number = 2 + (round * 7919 + n * 104_729 + 13) % (count - 1);
            pages.zero(u32::try_from(number).unwrap());
        }
        fs::write(place.file(), &pages.bytes).unwrap();
        let mut command = place.setup.command();
        command.arg("serve").stderr(std::process::Stdio::piped());
        let starting = command.spawn().unwrap();
        let ended = tokio::time::timeout(
            std::time::Duration::from_millis(1500),
            starting.wait_with_output(),
        );
        if let Ok(ended) = ended.await {
            let ended = ended.unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{said}");
            assert!(said.contains("damaged"), "{round}: {said}");
            continue;
        }
        let relay = place.setup.start().await;
        place.until_ready_says(&relay, 503).await;
        assert_eq!(place.watch(&relay, "job-new").await.status(), 503);
        let errors = messages(&relay.terminate().await.1, "ERROR");
        assert!(errors.iter().any(|error| error.contains("damaged")));
    }
}
