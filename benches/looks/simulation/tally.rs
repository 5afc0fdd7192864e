//! The totals of many simulated jobs.

/// The totals of many jobs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    jobs: usize,
    looks: usize,
    /// The seconds from the end of each job to the look that found it.
    delays: Vec<f64>,
}

impl Tally {
    /// Counts a job: the looks that it took, and the delay of the last one.
    pub(super) fn count(&mut self, looks: usize, delay: f64) {
        self.jobs += 1;
        self.looks += looks;
        self.delays.push(delay);
    }

    pub(crate) fn looks_a_job(&self) -> f64 {
        float(self.looks) / float(self.jobs)
    }

    pub(crate) fn mean_delay(&self) -> f64 {
        self.delays.iter().sum::<f64>() / float(self.jobs)
    }

    /// Returns the delay that this share of the jobs does not exceed.
    pub(crate) fn delay_at(&self, share: f64) -> f64 {
        let mut sorted = self.delays.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let index =
            (0..sorted.len()).rfind(|index| float(*index) <= share * float(sorted.len() - 1));
        index
            .and_then(|index| sorted.get(index).copied())
            .unwrap_or(0.0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.looks += other.looks;
        self.delays.extend(&other.delays);
    }
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
