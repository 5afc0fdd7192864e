//! The name of this machine.

use rustix::system::uname;

/// Returns the name of this machine, or of this container.
#[must_use]
pub fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_name() {
        assert!(!host_name().is_empty());
    }
}
