//! The banks of the sandbox, and how long their steps take.

use std::time::Duration;

/// How long each step takes at speed 1. The connectors report the same numbers.
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
    /// Each time: first a code, then a question.
    Twice,
    /// Every other job. In the jobs between, the step is `skipped`.
    Sometimes,
}

/// The result of uploading a statement for a bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadResult {
    /// The upload is refused, as for Basiq's own sandbox banks.
    Refused,
    /// The statement is read.
    Read,
    /// The job fails with this code and detail, because the file is not usable.
    Fails(&'static str, &'static str),
}

/// How a bank is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionMethod {
    /// By the login of the bank's website.
    Web,
    /// By the bank's own interface, after the person agreed there.
    OpenBanking,
    /// By an uploaded statement.
    Pdf,
    /// By an uploaded table.
    Csv,
}

impl ConnectionMethod {
    /// Returns the word that connectors and lists of connections use.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::OpenBanking => "openbanking",
            Self::Pdf => "pdf",
            Self::Csv => "csv",
        }
    }

    /// Returns the word that the document of one connection uses. Basiq's two examples spell open banking differently.
    pub(super) fn as_documented(self) -> &'static str {
        match self {
            Self::OpenBanking => "open-banking",
            Self::Web | Self::Pdf | Self::Csv => self.as_str(),
        }
    }

    /// Parses the method of a connector, in either spelling.
    pub(super) fn of_connector(text: &str) -> Option<Self> {
        let mut methods = [Self::Web, Self::OpenBanking].into_iter();
        methods.find(|method| text == method.as_str() || text == method.as_documented())
    }

    /// Returns whether Basiq can read the bank again without the person.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Web | Self::OpenBanking)
    }
}

/// A bank of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SandboxBank {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// Basiq's institution type.
    pub(super) kind: &'static str,
    pub(super) mfa: MfaRule,
    pub(super) upload: UploadResult,
    /// Whether it can be connected by open banking too.
    pub(super) open_banking: bool,
}

impl SandboxBank {
    /// Returns the methods by which it can be connected.
    pub(super) fn methods(&self) -> &'static [ConnectionMethod] {
        if self.open_banking {
            &[ConnectionMethod::Web, ConnectionMethod::OpenBanking]
        } else {
            &[ConnectionMethod::Web]
        }
    }
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
        open_banking: false,
    }
}

const fn paper_bank(id: &'static str, name: &'static str, upload: UploadResult) -> SandboxBank {
    SandboxBank {
        upload,
        ..bank(id, name, "Bank", MfaRule::Never)
    }
}

/// Basiq's sandbox banks, followed by four of this sandbox: three accept uploads, and one asks twice.
pub(super) const BANKS: &[SandboxBank] = &[
    SandboxBank {
        open_banking: true,
        ..bank("AU00000", "Hooli Bank", "Test Bank", MfaRule::Never)
    },
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

/// Returns the bank with that id.
pub(super) fn find_bank(id: &str) -> Option<&'static SandboxBank> {
    BANKS.iter().find(|bank| bank.id == id)
}
