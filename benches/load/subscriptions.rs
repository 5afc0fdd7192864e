//! Measures 100,000 subscriptions within a budget of 20 calls a second, in a hundredth of the time: everything that is
//! measured in hours, and the budget, is a hundred times faster.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use basiq_relay::config::Settings;
use relay_domain::{
    SigningSecret,
    clock::Clock,
    signing::{self, SignatureHeaders},
};
use reqwest::{Client, Url};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    basiq::Basiq,
    database::{Database, Kind, Server},
    figures::{Figures, float, percentile},
    people::{People, refresh_of},
    receiver::Receiver,
    scene::{Running, Scene},
};

/// How much faster the budget and the hours are.
const SPEED: u32 = 100;

const SUBSCRIPTIONS: usize = 100_000;

/// The default budget of calls to Basiq.
const CALLS_PER_SECOND: u32 = 20;

const HOUR: Duration = Duration::from_hours(1);

/// How long refreshes are counted, and how much longer the callbacks of these may take.
struct Course {
    list_interval: Duration,
    counted: Duration,
    patience: Duration,
    with_hints: bool,
}

/// Measures the subscriptions without Basiq's webhooks and the default interval, then with webhooks and a list a day.
pub(crate) async fn run(kind: Kind, server: &Server, figures: &mut Figures<'_>) -> Result<()> {
    by_lists(kind, server, figures).await?;
    by_webhooks(kind, server, figures).await
}

async fn by_lists(kind: Kind, server: &Server, figures: &mut Figures<'_>) -> Result<()> {
    let course = Course {
        list_interval: HOUR * 6 / SPEED,
        counted: HOUR * 3 / SPEED,
        patience: HOUR * 8 / SPEED,
        with_hints: false,
    };
    let found = measure(kind, server, &course).await?;
    let mut hours = found.hours();
    let refreshes = float(found.delays.len());
    figures.note("listed_refreshes", refreshes, "found by lists alone")?;
    figures.note("listed_per_s", found.lists_per_s(), "lists a second, of 5")?;
    for (name, hundredths) in [
        ("listed_hours_p50", 50),
        ("listed_hours_p99", 99),
        ("listed_hours_max", 100),
    ] {
        let hours = percentile(&mut hours, hundredths);
        figures.note(name, hours, "h from a refresh to its callback")?;
    }
    Ok(())
}

async fn by_webhooks(kind: Kind, server: &Server, figures: &mut Figures<'_>) -> Result<()> {
    let course = Course {
        list_interval: HOUR * 24 / SPEED,
        counted: HOUR * 3 / SPEED,
        patience: HOUR / SPEED,
        with_hints: true,
    };
    let hinted = measure(kind, server, &course).await?;
    let refreshes = float(hinted.delays.len());
    figures.note("hinted_refreshes", refreshes, "found by webhooks")?;
    figures.note("hinted_per_s", hinted.lists_per_s(), "lists a second, of 5")?;
    // The delay is of calls and commits, which are not faster than in reality.
    let mut seconds: Vec<f64> = hinted.delays.iter().map(Duration::as_secs_f64).collect();
    for (name, hundredths) in [("hinted_s_p50", 50), ("hinted_s_p99", 99)] {
        let seconds = percentile(&mut seconds, hundredths);
        figures.note(name, seconds, "s from a refresh to its callback")?;
    }
    Ok(())
}

/// What was found, and what it took.
struct Found {
    delays: Vec<Duration>,
    lists: usize,
    took: Duration,
}

impl Found {
    /// The lists a second of real time.
    fn lists_per_s(&self) -> f64 {
        float(self.lists) / self.took.as_secs_f64() / f64::from(SPEED)
    }

    /// The delays in hours of real time.
    fn hours(&self) -> Vec<f64> {
        let hours = |delay: &Duration| (*delay * SPEED).as_secs_f64() / HOUR.as_secs_f64();
        self.delays.iter().map(hours).collect()
    }
}

/// Lets people be refreshed for a while, and waits until each of these refreshes has had its callback.
async fn measure(kind: Kind, server: &Server, course: &Course) -> Result<Found> {
    let people = People::new(SUBSCRIPTIONS, HOUR * 24 / SPEED);
    let part = if course.with_hints {
        "hinted"
    } else {
        "listed"
    };
    let database = server.empty(kind, part).await?;
    let receiver = Receiver::noting();
    let scene = Scene::set_with(Basiq::of(people.clone()), database, receiver).await?;
    let secret = SigningSecret::generate();
    let change = |settings: &mut Settings| {
        settings.basiq.requests_per_second = CALLS_PER_SECOND * SPEED;
        settings.subscriptions.discovery_interval = course.list_interval;
        settings.basiq.webhook_secret = Some(secret.expose().into());
    };
    let (relay, _) = scene.relay_with(change).await?;
    let now = Clock::system().now().as_millisecond();
    subscribe(&scene.database, kind, scene.callback.as_str(), now, course).await?;
    let relay = Scene::run(relay).await?;
    people.begin(Clock::system().now());
    let (began, lists) = (Instant::now(), people.lists());
    if course.with_hints {
        send_hints(&relay, &people, &secret, course.counted).await?;
    } else {
        tokio::time::sleep(course.counted).await;
    }
    let took = began.elapsed();
    let lists = people.lists() - lists;
    let delays = delays_of(&scene.receiver, &people, course).await?;
    relay.stop().await?;
    Ok(Found {
        delays,
        lists,
        took,
    })
}

/// Inserts a subscription to each person. Their lists are spread over the interval.
async fn subscribe(
    database: &Database,
    kind: Kind,
    callback: &str,
    now: i64,
    course: &Course,
) -> Result<()> {
    let numbers = kind.numbers(SUBSCRIPTIONS);
    let (id, text) = match kind {
        Kind::Sqlite => ("unhex(printf('%032x', n))", "CAST(n - 1 AS TEXT)"),
        Kind::Postgres => ("decode(lpad(to_hex(n), 32, '0'), 'hex')", "(n - 1)::text"),
    };
    let interval = course.list_interval.as_millis();
    let statements = [
        format!(
            "INSERT INTO subscriptions (subscription_id, client_id, user_id, callback_url, callback_host, events, \
             notices, locale, metadata, created_at) \
             SELECT {id}, (SELECT min(client_id) FROM clients), {text}, '{callback}', '127.0.0.1', 15, 255, 'en', \
             '{{}}', {now} FROM {numbers} numbers"
        ),
        format!(
            "INSERT INTO due_lists (user_id, next_list_at) \
             SELECT {text}, {now} + CAST(n AS BIGINT) * {interval} / {SUBSCRIPTIONS} FROM {numbers} numbers"
        ),
        "ANALYZE".to_owned(),
    ];
    database.run(&statements).await
}

/// Sends a webhook for each refresh when it ends.
async fn send_hints(
    relay: &Running,
    people: &People,
    secret: &SigningSecret,
    counted: Duration,
) -> Result<()> {
    let began = Instant::now();
    let client = Client::builder().no_proxy().build()?;
    let url = relay.url.join("/basiq/webhook")?;
    let mut refreshes = refreshes_within(people, counted);
    refreshes.sort_unstable();
    let mut sending = JoinSet::new();
    for (after, person) in refreshes {
        tokio::time::sleep_until((began + after).into()).await;
        let (client, url) = (client.clone(), url.clone());
        let (headers, body) = webhook(person, secret)?;
        sending.spawn(async move { send(&client, url, &headers, body).await });
        while let Some(sent) = sending.try_join_next() {
            sent??;
        }
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(())
}

fn refreshes_within(people: &People, counted: Duration) -> Vec<(Duration, usize)> {
    let all = (0..people.count).map(|person| (people.refreshed_after(person), person));
    all.filter(|(after, _)| *after <= counted).collect()
}

fn webhook(person: usize, secret: &SigningSecret) -> Result<(SignatureHeaders, String)> {
    let source = format!("https://au-api.basiq.io/users/{person}/connections/c-{person}");
    let body = json!({
        "eventTypeId": "transactions.updated", "eventId": format!("e-{person}"),
        "links": { "event": "https://au-api.basiq.io/events/1", "eventEntity": source },
    });
    let body = body.to_string();
    let id = format!("m-{person}");
    let headers = signing::sign(&id, Clock::system().now(), &body, &[secret])?;
    Ok((headers, body))
}

async fn send(client: &Client, url: Url, headers: &SignatureHeaders, body: String) -> Result<()> {
    let mut request = client.post(url).body(body);
    for (name, value) in headers.entries() {
        request = request.header(name, value);
    }
    let response = request.send().await?;
    ensure!(
        response.status().is_success(),
        "a webhook was answered with {}",
        response.status()
    );
    Ok(())
}

/// Waits for the callbacks of the counted refreshes. Returns how long after its refresh each came. Each comes once.
async fn delays_of(receiver: &Receiver, people: &People, course: &Course) -> Result<Vec<Duration>> {
    let counted = refreshes_within(people, course.counted);
    let until = Instant::now() + course.patience;
    loop {
        let arrivals = arrivals(receiver)?;
        let missing =
            |(_, person): &&(Duration, usize)| !arrivals.contains_key(&refresh_of(*person));
        let missing = counted.iter().filter(missing).count();
        if missing == 0 {
            let delay = |(_, person): &(Duration, usize)| {
                let arrived = arrivals.get(&refresh_of(*person))?;
                Some(arrived.duration_since(people.refreshed_at(*person)?))
            };
            return Ok(counted.iter().filter_map(delay).collect());
        }
        ensure!(Instant::now() < until, "{missing} refreshes were not told");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Returns when the callback of each job arrived.
fn arrivals(receiver: &Receiver) -> Result<HashMap<String, Instant>> {
    let mut arrivals = HashMap::new();
    for (at, body) in receiver.noted() {
        let event: serde_json::Value = serde_json::from_slice(&body)?;
        let job = event.get("jobId");
        let job = job
            .and_then(|job| job.as_str())
            .context("a job")?
            .to_owned();
        ensure!(arrivals.insert(job, at).is_none(), "a job was told twice");
    }
    Ok(arrivals)
}
