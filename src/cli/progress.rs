//! Shows on a terminal that long work still runs, or how far it is.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    pin::pin,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The time without output after which the line appears.
const QUIET: Duration = Duration::from_secs(2);
/// The interval between two drawings.
const STEP: Duration = Duration::from_millis(250);
const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
/// Moves the cursor to the beginning of the line and erases the line.
const ERASE: &str = "\r\u{1b}[K";

/// The time before the first progress is shown; shorter work shows none.
const LONG: Duration = Duration::from_secs(1);
/// The minimum interval between two updates of the progress.
const BEAT: Duration = Duration::from_millis(200);

/// A temporary line on standard error. It does nothing if standard error is no terminal.
#[derive(Debug)]
pub(super) struct StatusLine {
    on: bool,
    quiet_since: Instant,
    next_drawing: Instant,
    /// The number of drawings since `quiet_since`.
    drawn: usize,
    show: fn(&str),
}

impl StatusLine {
    /// Creates a line for [`StatusLine::during`].
    pub(super) fn new() -> Self {
        Self::after(QUIET, is_wanted(), on_standard_error)
    }

    /// Creates a line for [`StatusLine::progress`] of work that begins now.
    pub(super) fn for_progress() -> Self {
        Self::after(LONG, is_wanted(), on_standard_error)
    }

    fn after(wait: Duration, on: bool, show: fn(&str)) -> Self {
        let now = Instant::now();
        Self {
            on,
            quiet_since: now,
            next_drawing: now + wait,
            drawn: 0,
            show,
        }
    }

    /// Waits for `work`. After `QUIET` without output, it shows the line with `what`.
    pub(super) async fn during<T>(&mut self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep_until(self.next_drawing), if self.on => {
                    let frame = FRAMES.iter().cycle().nth(self.drawn).unwrap_or(&' ');
                    let seconds = self.quiet_since.elapsed().as_secs();
                    self.draw(format_args!("{frame} {what} ({seconds} s)"), STEP);
                }
            }
        }
    }

    /// Shows the progress, in place of the previous text.
    pub(super) fn progress(&mut self, text: impl Display) {
        if self.on && Instant::now() >= self.next_drawing {
            self.draw(text, BEAT);
        }
    }

    fn draw(&mut self, text: impl Display, pause: Duration) {
        (self.show)(&format!("{ERASE}{text}"));
        self.drawn += 1;
        self.next_drawing = Instant::now() + pause;
    }

    /// Removes the line, because something is about to be printed.
    pub(super) fn hide(&mut self) {
        *self = Self::after(QUIET, self.on, self.show);
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.drawn > 0 {
            (self.show)(ERASE);
        }
    }
}

/// Waits for `work`, and shows `what` if it takes long.
pub(super) async fn shown<T>(what: &str, work: impl Future<Output = T>) -> T {
    StatusLine::new().during(what, work).await
}

/// Returns whether standard error is a terminal that can erase a line.
fn is_wanted() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stderr().is_terminal() && !is_dumb
}

/// Writes to standard error. It ignores errors, because nothing depends on this output.
fn on_standard_error(text: &str) {
    let mut err = io::stderr().lock();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(on: bool) -> StatusLine {
        StatusLine::after(QUIET, on, |_| {})
    }

    #[tokio::test(start_paused = true)]
    async fn it_shows_after_two_seconds_and_no_sooner() {
        let mut progress = progress(true);
        for (seconds, drawn) in [(1, 0), (1, 1), (1, 5)] {
            let work = tokio::time::sleep(Duration::from_secs(seconds) + STEP / 10);
            progress.during("waiting", work).await;
            assert_eq!(progress.drawn, drawn);
        }
        progress.hide();
        progress
            .during("waiting", tokio::time::sleep(QUIET / 2))
            .await;
        assert_eq!(progress.drawn, 0, "printing begins the two seconds anew");
    }

    #[tokio::test(start_paused = true)]
    async fn it_shows_nothing_where_there_is_no_terminal() {
        let mut progress = progress(false);
        progress
            .during("waiting", tokio::time::sleep(Duration::from_mins(1)))
            .await;
        assert_eq!(progress.drawn, 0);
    }
}
