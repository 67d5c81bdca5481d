//! Running programs: each command line is printed before it runs, in a form that can be pasted into a shell, and the time
//! that it took after it.
//!
//! # Failure
//! The first program that fails ends the command with a [`Failure`], whose sentence names the command line. What repeats
//! it comes last, in one line: a failing program may have printed screens of output before.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why a command stopped: one sentence for the person at the terminal, and what is known of how to see it again.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    sentence: String,
    step: Option<String>,
    command: Option<String>,
    replay: Option<String>,
}

/// What every command answers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure that prints as this sentence.
    pub fn new(sentence: impl Into<String>) -> Failure {
        Failure { sentence: sentence.into(), step: None, command: None, replay: None }
    }

    /// The same with another sentence.
    pub fn saying(self, sentence: impl Into<String>) -> Failure {
        Failure { sentence: sentence.into(), ..self }
    }

    /// The same with the command line that runs what failed again, and little else.
    pub fn replayed_by(self, replay: impl Into<String>) -> Failure {
        Failure { replay: Some(replay.into()), ..self }
    }

    /// The same in a step of a longer command; `replay` is for a failure that knows nothing better.
    pub fn in_step(self, step: &str, replay: &str) -> Failure {
        let replay = self.replay.unwrap_or_else(|| replay.to_owned());
        Failure { step: Some(step.to_owned()), replay: Some(replay), ..self }
    }

    /// One line to end the output with: the step, the command that failed, and what replays it. `None` when the sentence
    /// has said it all.
    pub fn last_line(&self) -> Option<String> {
        let replay = self.replay.as_ref()?;
        let step = self.step.as_ref().map(|step| format!("step {step}; "));
        let command = self.command.as_ref().map(|command| format!("command: {command}; "));
        let (step, command) = (step.unwrap_or_default(), command.unwrap_or_default());
        Some(format!("FAILED: {step}{command}replay: {replay}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// A program with its arguments, extra environment and folder.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    folder: PathBuf,
}

/// What a program did whose output is inspected.
#[derive(Debug)]
pub struct Captured {
    /// Whether it ended with success.
    pub success: bool,
    /// Standard output and standard error, one after the other.
    pub text: String,
}

impl Invocation {
    /// `program` run in `folder`.
    pub fn new(folder: &Path, program: impl Into<String>) -> Invocation {
        Invocation {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: folder.to_owned(),
        }
    }

    /// `cargo` run in `folder`.
    pub fn cargo<'a>(folder: &Path, args: impl IntoIterator<Item = &'a str>) -> Invocation {
        Invocation::new(folder, "cargo").args(args)
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl fmt::Display) -> Invocation {
        self.args.push(arg.to_string());
        self
    }

    /// Adds several arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Invocation {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable for the program.
    pub fn env(mut self, name: &str, value: impl fmt::Display) -> Invocation {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets an environment variable when there is a value for it.
    pub fn env_opt(self, name: &str, value: Option<impl fmt::Display>) -> Invocation {
        match value {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// The line that a person would type to run the same.
    pub fn line(&self) -> String {
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| quoted(word));
        env.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Prints the line, runs the program on this terminal and prints the time it took.
    ///
    /// # Errors
    /// When the program cannot start or does not end with success.
    pub fn run(&self) -> Result<()> {
        println!("$ {}", self.line());
        let start = Instant::now();
        let status = self.command().status().map_err(|error| self.cannot_start(&error))?;
        println!("  {}", seconds(start.elapsed().as_secs_f64()));
        if status.success() {
            return Ok(());
        }
        let failure = Failure::new(format!("`{}` failed with {status}", self.line()));
        Err(Failure { command: Some(self.line()), ..failure })
    }

    /// Prints the line, runs the program and keeps what it prints.
    ///
    /// # Errors
    /// When the program cannot start. Its own failure is in the answer.
    pub fn capture(&self) -> Result<Captured> {
        println!("$ {}", self.line());
        let start = Instant::now();
        let output = self.command().output().map_err(|error| self.cannot_start(&error))?;
        println!("  {}", seconds(start.elapsed().as_secs_f64()));
        let text = [output.stdout, output.stderr].concat();
        Ok(Captured {
            success: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// Runs the program silently and answers its standard output.
    ///
    /// # Errors
    /// When the program cannot start or does not end with success; the sentence holds what it
    /// printed as an error.
    pub fn read(&self) -> Result<String> {
        let output = self.command().output().map_err(|error| self.cannot_start(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("`{}` failed: {}", self.line(), reason.trim())))
    }

    /// Whether the program can be started and ends with success; prints nothing.
    pub fn answers(&self) -> bool {
        self.command().output().is_ok_and(|output| output.status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        // `cargo xtask` runs below cargo, which describes the package xtask to us; none of it is
        // meant for what we run, and build scripts that watch such variables would run again.
        for (name, _) in std::env::vars_os() {
            if is_of_outer_cargo(&name) {
                command.env_remove(name);
            }
        }
        command
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot start `{}`: {error}", self.line()))
    }
}

fn is_of_outer_cargo(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO"
}

/// Quotes a word for a POSIX shell when it needs quoting.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A duration in seconds as people read it: `0.4 s`, `3 min 20 s`, `2 h 05 min`.
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        0..60 => format!("{value:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_line_can_be_pasted_into_a_shell() {
        let line = Invocation::cargo(Path::new("."), ["test", "--test", "loom_*"])
            .env("RUSTFLAGS", "--cfg loom")
            .arg("it's")
            .line();
        assert_eq!(line, r"RUSTFLAGS='--cfg loom' cargo test --test 'loom_*' 'it'\''s'");
    }

    #[test]
    fn a_failing_program_is_named_with_its_status() {
        let failure = Invocation::new(Path::new("."), "false").run().unwrap_err();
        assert_eq!(failure.to_string(), "`false` failed with exit status: 1");
    }

    #[test]
    fn the_last_line_names_the_step_the_command_and_the_best_replay() {
        let fails = || Invocation::new(Path::new("."), "false").arg("a b").run().unwrap_err();
        assert_eq!(fails().last_line(), None);
        assert_eq!(
            fails().in_step("crash --bugs", "cargo xtask crash --bugs").last_line().unwrap(),
            "FAILED: step crash --bugs; command: false 'a b'; replay: cargo xtask crash --bugs"
        );
        let known = fails().saying("x\ny").replayed_by("cargo xtask fuzz t --input f");
        assert_eq!(
            known.in_step("fuzz", "cargo xtask fuzz").last_line().unwrap(),
            "FAILED: step fuzz; command: false 'a b'; replay: cargo xtask fuzz t --input f"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = Invocation::new(Path::new("."), "no-such-program").run().unwrap_err();
        assert!(failure.to_string().starts_with("cannot start `no-such-program`: "));
    }

    #[test]
    fn captured_output_holds_both_streams_and_the_verdict() {
        let script = "echo out; echo err >&2; exit 3";
        let captured =
            Invocation::new(Path::new("."), "sh").args(["-c", script]).capture().unwrap();
        assert_eq!(captured.text, "out\nerr\n");
        assert!(!captured.success);
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(0.44), "0.4 s");
        assert_eq!(seconds(200.0), "3 min 20 s");
        assert_eq!(seconds(7_500.0), "2 h 05 min");
    }
}
