//! The banks of the sandbox, and how long they take.

use std::time::Duration;

/// How long each step takes at speed 1; connectors report the same numbers.
pub(super) const VERIFY_TAKES: Duration = Duration::from_millis(2500);
pub(super) const ACCOUNTS_TAKES: Duration = Duration::from_millis(1500);
pub(super) const TRANSACTIONS_TAKES: Duration = Duration::from_secs(3);
/// How long a new job stays queued.
pub(super) const QUEUED: Duration = Duration::from_millis(300);

/// Whether a bank asks for a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MfaRule {
    Never,
    Always,
    /// Each time, a code first and then a question.
    Twice,
    /// Every other job; where it does not, the step is `skipped`.
    Sometimes,
}

/// What becomes of a statement uploaded for a bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadResult {
    /// Uploads are refused, as for Basiq's own sandbox banks.
    Refused,
    /// The statement is read.
    Read,
    /// The file cannot be used.
    Fails(&'static str, &'static str),
}

/// A bank of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SandboxBank {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// Basiq's word for what it is.
    pub(super) kind: &'static str,
    pub(super) mfa: MfaRule,
    pub(super) upload: UploadResult,
}

const fn bank(
    id: &'static str,
    name: &'static str,
    kind: &'static str,
    mfa: MfaRule,
) -> SandboxBank {
    let upload = UploadResult::Refused;
    SandboxBank {
        id,
        name,
        kind,
        mfa,
        upload,
    }
}

const fn paper_bank(id: &'static str, name: &'static str, upload: UploadResult) -> SandboxBank {
    SandboxBank {
        upload,
        ..bank(id, name, "Bank", MfaRule::Never)
    }
}

/// Basiq's sandbox banks, then some of the sandbox's own: three that take uploads, and one that asks
/// twice.
pub(super) const BANKS: &[SandboxBank] = &[
    bank("AU00000", "Hooli Bank", "Test Bank", MfaRule::Never),
    bank("AU00002", "Pied Piper Bank", "Test Bank", MfaRule::Always),
    bank("AU00003", "Nucleus Bank", "Test Bank", MfaRule::Sometimes),
    bank("AU00004", "HooliGov Bank", "Government", MfaRule::Always),
    paper_bank("AU01001", "Paper Bank", UploadResult::Read),
    paper_bank(
        "AU01002",
        "Strange Paper Bank",
        UploadResult::Fails(
            "bank-statement-not-supported",
            "This layout is unknown for the bank. Was the right bank chosen?",
        ),
    ),
    paper_bank(
        "AU01003",
        "Wrong Paper Bank",
        UploadResult::Fails(
            "bank-statement-invalid",
            "The file is not an official PDF statement of the bank.",
        ),
    ),
    bank("AU01004", "Careful Bank", "Test Bank", MfaRule::Twice),
];

/// The bank with that id.
pub(super) fn find_bank(id: &str) -> Option<&'static SandboxBank> {
    BANKS.iter().find(|bank| bank.id == id)
}
