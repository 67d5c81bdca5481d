//! `cargo xtask fuzz`: the targets of the package `fuzz/` under libFuzzer and AddressSanitizer.
//!
//! `cargo-fuzz` is not needed: it is a set of flags for a nightly compiler, and those are here. `fuzz/` is a package with
//! a lock file of its own, `[workspace]` empty, `libfuzzer-sys` and one `[[bin]]` for each target.
//!
//! # Layout
//! - `fuzz/seeds/TARGET/`: inputs worth keeping, checked in; every run starts from them
//! - `target/fuzz-corpus/TARGET/`: what earlier runs on this machine have found to be interesting
//! - `target/fuzz-repeatable/TARGET/`: the same of the last repeatable run, which does not start from it
//! - `target/fuzz-artifacts/TARGET/`: inputs that failed; `cargo xtask fuzz TARGET --input FILE` replays one
//!
//! A run by hand has new random numbers and goes on from the corpus. CI runs are repeatable: the seed, the inputs to start
//! from and the number of runs are fixed, so that one that passed passes again while nothing is changed, and a slow
//! machine does what a fast one does. The price is what comparisons would tell libFuzzer: they show addresses, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::run::{Failure, Invocation, Result};
use crate::workspace::Workspace;

/// Coverage feedback for libFuzzer, comparisons traced so that it finds magic numbers, memory errors
/// as failures, and the assertions of debug builds. The same as `cargo fuzz` sets.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Zsanitizer=address --cfg fuzzing -Cdebug-assertions";

// LIMIT: memory of a fuzz target; a target that needs more trusts a length it has not checked.
const MEMORY_MIB_MAX: u32 = 2048;

/// Starts the random numbers of a repeatable run that is given no other seed.
const REPEATABLE_SEED: u64 = 1;

/// How many inputs a repeatable run tries: what one core does in about 6 s.
const REPEATABLE_RUNS: &[(&str, u64)] = &[
    ("frame", 600_000),
    ("batch_payload", 160_000),
    ("segment", 40_000),
    ("directory", 4_000),
    ("snappy", 400_000),
    ("manifest", 10_000),
];

/// The same for a target that is not in the list.
const REPEATABLE_RUNS_OTHER: u64 = 10_000;

/// The options of `cargo xtask fuzz`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The target to run; without it, all of them one after the other
    pub target: Option<String>,
    /// How long to run each target at most
    #[arg(long, value_name = "N", default_value_t = Options::default().seconds)]
    pub seconds: u64,
    /// Replays one input instead
    #[arg(long, value_name = "FILE", requires = "target")]
    pub input: Option<PathBuf>,
    /// Starts the random numbers of libFuzzer
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Does the same in every run, as CI: a fixed seed, the checked-in inputs alone, a fixed number of runs
    #[arg(long)]
    pub repeatable: bool,
    /// A machine without a nightly toolchain skips the fuzz targets and says so
    #[arg(long)]
    pub if_available: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            target: None,
            seconds: 60,
            input: None,
            seed: None,
            repeatable: false,
            if_available: false,
        }
    }
}

/// Builds the targets and runs them.
///
/// # Errors
/// When a target fails, when there is none, or when the toolchain is missing and need not be.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let manifest = workspace.root.join("fuzz/Cargo.toml");
    if !manifest.exists() {
        return Err(Failure::new("there is no package in fuzz/; expected fuzz/Cargo.toml"));
    }
    let Some(host) = nightly_host(&workspace.root) else {
        if options.if_available {
            println!("fuzz: skipped, no nightly toolchain");
            return Ok(());
        }
        return Err(Failure::new(
            "no nightly toolchain; `rustup toolchain install nightly` adds it",
        ));
    };
    let targets = targets(&manifest, options.target.as_deref())?;
    let build_dir = workspace.target_dir.join("fuzz");
    // A target triple of its own for the targets keeps the flags away from build scripts.
    Invocation::new(&workspace.root, "rustup")
        .args(["run", "nightly", "cargo", "build", "--release", "--manifest-path"])
        .args(["fuzz/Cargo.toml", "--target", &host, "--target-dir"])
        .arg(build_dir.display())
        .env("RUSTFLAGS", RUSTFLAGS)
        .run()?;
    for target in targets {
        let binary = build_dir.join(&host).join("release").join(&target);
        fuzz(workspace, &target, &binary, options)?;
    }
    Ok(())
}

fn fuzz(workspace: &Workspace, target: &str, binary: &Path, options: &Options) -> Result<()> {
    let program = Invocation::new(&workspace.root, binary.to_string_lossy())
        // Generic statics in several crates are not two definitions of one.
        .env("ASAN_OPTIONS", "detect_odr_violation=0")
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    if let Some(input) = &options.input {
        let input = std::path::absolute(input).unwrap_or(input.clone());
        return program.arg(input.display()).run();
    }
    let corpus = corpus(workspace, target, options.repeatable)?;
    let artifacts = created(workspace.target_dir.join("fuzz-artifacts").join(target))?;
    let seeds = Path::new("fuzz/seeds").join(target);
    let mut program = program
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1");
    if options.repeatable {
        // Comparisons show the fuzzer addresses, which the kernel draws anew for each process; files that it wrote itself
        // would come back at a moment that the clock decides.
        program = program
            .arg(format!("-runs={}", repeatable_runs(target)))
            .args(["-use_cmp=0", "-reload=0"]);
    }
    if let Some(seed) = options.seed.or(options.repeatable.then_some(REPEATABLE_SEED)) {
        // libFuzzer takes 32 bits, and 0 for a seed of its own choice.
        program = program.arg(format!("-seed={}", seed % u64::from(u32::MAX) + 1));
    }
    program = program.arg(corpus.display());
    if workspace.root.join(&seeds).is_dir() {
        program = if options.repeatable {
            program.arg(format!("-seed_inputs=@{}", sorted(workspace, &seeds, &corpus)?.display()))
        } else {
            program.arg(seeds.display())
        };
    }
    let begun = SystemTime::now();
    program.run().map_err(|failure| {
        let input = newest(&artifacts, begun).unwrap_or_else(|| artifacts.join("FILE"));
        let input = input.strip_prefix(&workspace.root).unwrap_or(&input);
        let replay = format!("cargo xtask fuzz {target} --input {}", input.display());
        let sentence = format!("{failure}\n  replay: {replay}");
        failure.saying(sentence).replayed_by(replay)
    })
}

/// The folder for what a run finds to be interesting; a repeatable one must find it empty.
fn corpus(workspace: &Workspace, target: &str, repeatable: bool) -> Result<PathBuf> {
    if !repeatable {
        return created(workspace.target_dir.join("fuzz-corpus").join(target));
    }
    let folder = workspace.target_dir.join("fuzz-repeatable").join(target);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|error| Failure::new(format!("cannot empty {}: {error}", folder.display())))?;
    }
    created(folder)
}

/// A file beside the corpus with the inputs of a folder in the order of their names: that of a folder is up to the file
/// system.
fn sorted(workspace: &Workspace, seeds: &Path, corpus: &Path) -> Result<PathBuf> {
    let list = corpus.with_extension("seeds");
    let cannot =
        |error: std::io::Error| Failure::new(format!("cannot list {}: {error}", seeds.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace.root.join(seeds)).map_err(cannot)? {
        let path = seeds.join(entry.map_err(cannot)?.file_name());
        names.push(path.display().to_string());
    }
    names.sort_unstable();
    fs::write(&list, names.join(",")).map_err(cannot)?;
    Ok(list)
}

fn repeatable_runs(target: &str) -> u64 {
    let known = REPEATABLE_RUNS.iter().find(|(name, _)| *name == target);
    known.map_or(REPEATABLE_RUNS_OTHER, |(_, runs)| *runs)
}

/// The newest file of a folder that was written since then.
fn newest(folder: &Path, since: SystemTime) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let files = entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry)));
    let (_, entry) =
        files.filter(|(modified, _)| *modified >= since).max_by_key(|(modified, _)| *modified)?;
    Some(entry.path())
}

/// The platform that the nightly compiler runs on, when there is one.
pub(crate) fn nightly_host(folder: &Path) -> Option<String> {
    let version = Invocation::new(folder, "rustup").args(["run", "nightly", "rustc", "-vV"]);
    let text = version.read().ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

fn targets(manifest: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let fuzz = Workspace::load_other(manifest)?;
    let all = fuzz.packages.iter().flat_map(|package| package.targets_of("bin"));
    let all: Vec<String> = all.map(str::to_owned).collect();
    select(all, wanted)
}

fn select(all: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>> {
    match wanted {
        _ if all.is_empty() => Err(Failure::new("fuzz/Cargo.toml has no [[bin]] section")),
        None => Ok(all),
        Some(wanted) if all.iter().any(|name| name == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => {
            let names = all.join(", ");
            Err(Failure::new(format!("no fuzz target is called `{wanted}`; there are: {names}")))
        }
    }
}

fn created(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", folder.display())))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_chosen_by_name_and_an_unknown_one_is_refused() {
        let all = || vec!["frames".to_owned(), "segment".to_owned()];
        assert_eq!(select(all(), None).unwrap(), all());
        assert_eq!(select(all(), Some("segment")).unwrap(), ["segment"]);
        let failure = select(all(), Some("frame")).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "no fuzz target is called `frame`; there are: frames, segment"
        );
        assert!(select(Vec::new(), None).is_err());
    }

    #[test]
    fn repeatable_runs_are_bounded_for_every_target_by_name() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        let bins = manifest.split("[[bin]]").skip(1);
        let mut names: Vec<&str> = bins.filter_map(|bin| bin.split('"').nth(1)).collect();
        let mut known: Vec<&str> = REPEATABLE_RUNS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn the_input_that_failed_is_the_newest_since_the_run_began() {
        let folder = std::env::temp_dir().join(format!("xtask-newest-{}", std::process::id()));
        let folder = created(folder).unwrap();
        fs::write(folder.join("crash-1"), "x").unwrap();
        let written = fs::metadata(folder.join("crash-1")).unwrap().modified().unwrap();
        assert_eq!(newest(&folder, written), Some(folder.join("crash-1")));
        assert_eq!(newest(&folder, written + std::time::Duration::from_secs(1)), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
