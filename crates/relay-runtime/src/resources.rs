//! Distinguishes failures for lack of the process's own resources (file handles, threads, memory) from other
//! failures.

use std::{error::Error, fs::File, io, iter};

use rustix::io::Errno;

/// The system's error codes for a process or a machine that has no resource left. The list lacks `EADDRNOTAVAIL`,
/// because the system also returns it for IPv6 addresses where IPv6 is switched off.
const OUT_OF_RESOURCES: [Errno; 5] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::NOBUFS,
    Errno::AGAIN,
];

/// Returns an error and its causes, outermost first. An I/O error leaves the error that it wraps out of its chain of
/// sources, so this function reads that error directly.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
}

/// Returns whether an error means that the process has no file handle, thread or memory left. No request was sent
/// then.
#[must_use]
pub fn lacks_resources(error: &(dyn Error + 'static)) -> bool {
    let is_want = |cause: &(dyn Error + 'static)| {
        let code = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        code.is_some_and(|code| {
            OUT_OF_RESOURCES
                .iter()
                .any(|errno| errno.raw_os_error() == code)
        })
    };
    causes(error).any(is_want)
}

/// Returns whether the process has no file handle left now.
#[must_use]
pub fn lacks_handles() -> bool {
    File::open("/dev/null").is_err_and(|error| lacks_resources(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_resources_is_found_wherever_it_is_wrapped() {
        let want = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in OUT_OF_RESOURCES {
            assert!(lacks_resources(&want(errno)), "{errno}");
            let wrapped = io::Error::other(io::Error::other(want(errno)));
            assert!(lacks_resources(&wrapped), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::ADDRNOTAVAIL, Errno::NETUNREACH] {
            assert!(!lacks_resources(&want(errno)), "{errno}");
        }
        assert!(!lacks_resources(&io::Error::other("too many open files")));
        assert!(!lacks_handles());
    }
}
