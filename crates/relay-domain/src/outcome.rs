//! The meaning of a look at a job: whether the job is still running, and whether there is something to report.

use jiff::Timestamp;

use crate::Challenge;

/// Defines an enum whose values have one written form each, in JSON, in logs and in metrics.
macro_rules! closed_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the API's documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the value as it is written in JSON, logs and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Parses the written form of a value; none if it is unknown.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_words;

closed_words! {
    /// The status that an event reports.
    Status {
        /// Every step succeeded.
        Success => "success",
        /// A step failed, and Basiq will not try again by itself.
        Failed => "failed",
        /// The job is paused until the person answers.
        ActionRequired => "action-required",
        /// The job failed for now, and Basiq will try again by itself.
        Delayed => "delayed",
    }
}

closed_words! {
    /// What the receiver of an event should do next.
    Action {
        /// Nothing.
        None => "none",
        /// Show the challenge and send the answer before it expires.
        AnswerMfa => "answer-mfa",
        /// Ask for the bank login again and update the connection with it.
        ResubmitCredentials => "resubmit-credentials",
        /// Ask the person to log in to internet banking and clear what the bank asks there.
        ResolveAtBank => "resolve-at-bank",
        /// Send the person through the consent flow again.
        Reauthorise => "reauthorise",
        /// Ask for a different or corrected statement file.
        ProvideStatement => "provide-statement",
        /// Tell the person that the job will take longer. The relay reports when it is done.
        Wait => "wait",
        /// The bank is down for everybody. The relay reports when it is back.
        WaitForBank => "wait-for-bank",
        /// Refresh the connection at `retryAt`, or now.
        Retry => "retry",
        /// Report the connection and the job to Basiq support.
        ContactSupport => "contact-support",
        /// The integration sent something wrong. A developer must check it.
        FixRequest => "fix-request",
    }
}

/// The meaning of a look at a job for one watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job is still running, and there is nothing to report.
    Running,
    /// The look brought no document, so the watch stays as it is.
    Unknown,
    /// There is something to report, unless the client already got this event.
    Tell(Box<Verdict>),
}

impl Outcome {
    /// Returns whether the watch ends with this outcome.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Tell(verdict) if verdict.is_final)
    }
}

/// A report about a job, complete except for the text shown to the person.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The status that the event reports.
    pub status: Status,
    /// What the receiver should do next.
    pub action: Action,
    /// Whether this is the last report of the watch.
    pub is_final: bool,
    /// The title of the first failed step.
    pub failed_step: Option<String>,
    /// Basiq's code in its canonical spelling, or one of the relay's own.
    pub error_code: Option<String>,
    /// The key of the text for the person in the catalogue of messages.
    pub message: String,
    /// When a retry is worthwhile.
    pub retry_at: Option<Timestamp>,
    /// The bank's text for developers, cleaned and cut at 1,000 characters.
    pub detail: Option<String>,
    /// The open challenge, for [`Action::AnswerMfa`].
    pub challenge: Option<Challenge>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_json_says() {
        for action in Action::ALL {
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
            assert_eq!(Action::from_word(action.as_str()), Some(*action));
        }
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(Action::from_word("shrug"), None);
    }
}
