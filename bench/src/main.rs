//! `cortenkv-bench`: the suites of this package on the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    cortenkv_bench::cli::main(cortenkv_bench::suites::all())
}
