//! Who runs a command that works on the store, for the audit log.

use relay_domain::{Actor, OperatorName};

/// Returns the operator of this command: `cli:` and the user of the operating system.
pub(super) fn command_line_actor() -> Actor {
    Actor {
        operator: OperatorName::command_line(&relay_runtime::user_name()),
        from: None,
    }
}
