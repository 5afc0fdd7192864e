//! Runs a command on a terminal, by `script`.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

/// A command on a terminal of 80 columns.
pub(crate) struct OnTerminal {
    child: Child,
    seen: String,
}

impl OnTerminal {
    pub(crate) fn start(command: &Command) -> Self {
        let program = command.as_std().get_program().to_owned();
        let arguments = command
            .as_std()
            .get_args()
            .map(|text| text.to_str().unwrap());
        let arguments = arguments.collect::<Vec<_>>().join(" ");
        let line = format!(
            "stty cols 80; exec {} {arguments}",
            program.to_str().unwrap()
        );
        let mut on_terminal = Command::new("script");
        on_terminal
            .args(["-qec", &line, "/dev/null"])
            .envs(
                command
                    .as_std()
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("NO_COLOR", "1")
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(folder) = command.as_std().get_current_dir() {
            on_terminal.current_dir(folder);
        }
        let child = on_terminal.spawn().unwrap();
        let seen = String::new();
        Self { child, seen }
    }

    /// Reads until the text appears on the terminal, and then types a line.
    pub(crate) async fn types(&mut self, line: &str, after: &str) {
        while !self.seen.contains(after) {
            assert!(self.reads().await, "{}", self.seen);
        }
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn reads(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let reading = self.child.stdout.as_mut().unwrap().read(&mut bytes);
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        let count = read.expect("output in time").unwrap();
        self.seen += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }

    /// Reads to the end. Returns the exit code and the lines of the terminal.
    pub(crate) async fn end(mut self) -> (Option<i32>, Vec<String>) {
        while self.reads().await {}
        let code = self.child.wait().await.unwrap().code();
        let lines = self.seen.lines().map(|line| line.trim_end().to_owned());
        (code, lines.collect())
    }
}
