//! A test store that keeps watches in a list.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{
    ActivityRow, ActivityScope, ApiKey, Bank, CallbackAuth, CallbackUrl, Client, ClientId,
    DeliveryId, JobContext, JobId, JobMemory, Requester, SigningSecret, Watch, WatchId,
};
use relay_store::{
    AbandonedDelivery, ActivityStore, AnswerClaim, AnswerEnd, AnswerStore, AttemptResult, BankLook,
    BankStore, Census, Claim, ClockStep, DeliveryEntry, DeliveryQuery, DeliveryStore, DueBank,
    DueDelivery, DueJob, DurationStore, DurationsFound, EarlierLook, FollowStore, Hint,
    HintOutcome, HintStore, HostLimits, JobStore, Look, NewDeliveries, NewJobs, NewWatch,
    OutboxStore, Redelivery, Registration, StoreError, StoreTroubles, UpkeepStore, WaitLimit,
    WatchDetails, WatchQuery, WatchStore, WatchVersion,
};

/// The API key of client `a`.
pub(super) const KEY: &str = "brk_of_a";
/// The API key of client `b`.
pub(super) const OTHER_KEY: &str = "brk_of_b";
/// The signing secret of all clients.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Default)]
pub(super) struct ListStore {
    pub(super) watches: Mutex<Vec<Watch>>,
    /// Whether the store is unavailable.
    pub(super) away: bool,
    pub(super) new_jobs: NewJobs,
    pub(super) new_deliveries: NewDeliveries,
}

fn details(watch: &Watch) -> WatchDetails {
    WatchDetails {
        watch: watch.clone(),
        job: JobMemory::default(),
        next_look_at: Some(watch.created_at),
        events: Vec::new(),
    }
}

pub(super) fn client(id: i64, name: &str) -> Client {
    Client {
        id: ClientId(id),
        name: name.parse().unwrap(),
        key_hash: ApiKey::presented(name).hash(),
        signing_secret: SigningSecret::parse(SECRET).unwrap(),
        previous_secret: None,
        callback_auth: CallbackAuth::default(),
        created_at: Timestamp::UNIX_EPOCH,
        revoked_at: None,
    }
}

impl ListStore {
    fn register(&self, new: NewWatch) -> Registration {
        let mut watches = self.watches.lock().unwrap();
        let same = watches.iter().find(|watch| {
            watch.client_id == new.client_id
                && watch.request.job_id == new.request.job_id
                && watch.request.callback_url == new.request.callback_url
        });
        if let Some(watch) = same {
            return Registration::Existing(Box::new(details(watch)));
        }
        if watches.len() as u64 >= new.max_open {
            return Registration::AtCap;
        }
        let watch = Watch::begun(new.id, new.client_id, new.request, new.now);
        watches.push(watch.clone());
        Registration::Created(Box::new(watch))
    }
}

#[async_trait]
impl WatchStore for ListStore {
    async fn register_watches(&self, new: Vec<NewWatch>) -> Result<Vec<Registration>, StoreError> {
        Ok(new.into_iter().map(|new| self.register(new)).collect())
    }

    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchDetails>, StoreError> {
        let watches = self.watches.lock().unwrap();
        let mut found = watches.iter().filter(|watch| watch.id == id);
        let found = found.find(|watch| owner.is_none_or(|owner| owner == watch.client_id));
        Ok(found.map(details))
    }

    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchDetails>, StoreError> {
        let watches = self.watches.lock().unwrap();
        let mine = watches
            .iter()
            .rev()
            .filter(|watch| query.owner.is_none_or(|owner| owner == watch.client_id))
            .filter(|watch| query.before.is_none_or(|before| watch.id < before));
        Ok(mine.take(query.limit).map(details).collect())
    }

    async fn cancel_watch(
        &self,
        by: &Requester,
        id: WatchId,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(self.find_watch(by.owner(), id).await?.is_some())
    }
}

#[async_trait]
impl FollowStore for ListStore {
    async fn find_owner(&self, id: WatchId) -> Result<Option<Client>, StoreError> {
        let found = self.find_watch(None, id).await?;
        Ok(found.map(|details| client(details.watch.client_id.0, "a")))
    }

    async fn find_watches(&self, ids: &[WatchId]) -> Result<Vec<WatchDetails>, StoreError> {
        let watches = self.watches.lock().unwrap();
        let found = watches.iter().filter(|watch| ids.contains(&watch.id));
        Ok(found.map(details).collect())
    }

    async fn watch_versions(
        &self,
        _: &[WatchId],
    ) -> Result<Vec<(WatchId, WatchVersion)>, StoreError> {
        Ok(Vec::new())
    }

    async fn look_earlier(&self, _: Vec<EarlierLook>) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl DeliveryStore for ListStore {
    async fn list_deliveries(&self, _: &DeliveryQuery) -> Result<Vec<DeliveryEntry>, StoreError> {
        Ok(Vec::new())
    }

    async fn redeliver_watch(
        &self,
        by: &Requester,
        id: WatchId,
        _: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let found = self.find_watch(by.owner(), id).await?;
        Ok(found.map_or(Redelivery::NotFound, |_| Redelivery::NoEvent))
    }

    async fn redeliver_one(
        &self,
        _: &Requester,
        _: DeliveryId,
        _: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        Ok(Redelivery::NotFound)
    }

    async fn redeliver_dead(
        &self,
        _: &Requester,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<u64, StoreError> {
        Ok(3)
    }
}

#[async_trait]
impl AnswerStore for ListStore {
    async fn claim_answer(
        &self,
        owner: ClientId,
        id: WatchId,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<AnswerClaim, StoreError> {
        let found = self.find_watch(Some(owner), id).await?;
        Ok(found.map_or(AnswerClaim::NoSuchWatch, |_| AnswerClaim::NoOpenChallenge))
    }

    async fn end_answer(&self, _: &JobId, _: AnswerEnd) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl HintStore for ListStore {
    async fn take_hint(&self, _: Hint) -> Result<HintOutcome, StoreError> {
        Ok(HintOutcome::Taken {
            jobs: 0,
            notices: 0,
            lists: false,
        })
    }

    async fn redirect_messages(&self, _: &CallbackUrl) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl DurationStore for ListStore {
    async fn durations_of(&self, _: &JobContext) -> Result<DurationsFound, StoreError> {
        Ok(DurationsFound::default())
    }
}

#[async_trait]
impl BankStore for ListStore {
    async fn claim_due_banks(&self, _: Claim) -> Result<Vec<DueBank>, StoreError> {
        Ok(Vec::new())
    }

    async fn record_bank_looks(&self, _: Vec<BankLook>) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn next_bank_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn is_bank_out(&self, _: &Bank) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[async_trait]
impl JobStore for ListStore {
    async fn claim_due_jobs(&self, _: Claim) -> Result<Vec<DueJob>, StoreError> {
        Ok(Vec::new())
    }

    async fn record_looks(&self, _: std::sync::Arc<[Look]>) -> Result<Vec<JobId>, StoreError> {
        Ok(Vec::new())
    }

    fn new_jobs(&self) -> &NewJobs {
        &self.new_jobs
    }

    async fn next_look_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn connection_failures(
        &self,
        _: &str,
        _: &JobId,
        _: Timestamp,
    ) -> Result<u32, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl OutboxStore for ListStore {
    async fn claim_due_deliveries(
        &self,
        _: Claim,
        _: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        Ok(Vec::new())
    }

    fn new_deliveries(&self) -> &NewDeliveries {
        &self.new_deliveries
    }

    async fn record_attempts(&self, _: Vec<AttemptResult>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn give_up_waiting(&self, _: WaitLimit) -> Result<Vec<AbandonedDelivery>, StoreError> {
        Ok(Vec::new())
    }

    async fn next_delivery_due(&self, _: &HostLimits) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}

#[async_trait]
impl ActivityStore for ListStore {
    async fn record_activity(&self, _: Vec<ActivityRow>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list_activity(
        &self,
        _: ActivityScope,
        _: Timestamp,
    ) -> Result<Vec<ActivityRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn purge_activity(&self, _: Timestamp, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl UpkeepStore for ListStore {
    async fn ping(&self) -> Result<(), StoreError> {
        if self.away {
            return Err(StoreError::unavailable("the disk is gone"));
        }
        Ok(())
    }

    async fn examine(&self, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn note_time(&self, _: Timestamp) -> Result<Option<ClockStep>, StoreError> {
        Ok(None)
    }

    async fn move_times(&self, _: ClockStep) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn free_leases(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn purge_ended(&self, _: Timestamp, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn troubles(&self, _: Timestamp, _: usize) -> Result<StoreTroubles, StoreError> {
        Ok(StoreTroubles::default())
    }

    async fn census(&self, _: Timestamp) -> Result<Census, StoreError> {
        Ok(Census::default())
    }

    async fn close(&self) {}
}
