//! The user of the operating system that runs this process.

use std::fs;

use rustix::process::getuid;

/// The file that names the users of this machine.
const USERS: &str = "/etc/passwd";

/// Returns the name of the user that runs this process, or its number if the machine's list of users lacks it. The
/// environment is not asked, because everybody can set it.
#[must_use]
pub fn user_name() -> String {
    let number = getuid().as_raw();
    let users = fs::read_to_string(USERS).unwrap_or_default();
    name_of(number, &users).unwrap_or_else(|| number.to_string())
}

/// Finds a user by its number in the text of `/etc/passwd`.
fn name_of(number: u32, users: &str) -> Option<String> {
    let mut lines = users.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        (found == number && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nops:x:1000:1000::/home/ops:/bin/sh\n";
        assert_eq!(name_of(1000, users).as_deref(), Some("ops"));
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(7, users), None);
        assert!(!user_name().is_empty());
    }
}
