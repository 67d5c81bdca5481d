//! Facts about the machine, printed beside every number.

use std::fs::read_to_string;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Where a result was measured. Unknown facts are empty or zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Threads that it runs at once.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Operating system and kernel release.
    pub kernel: String,
    /// File system and device under the measured directory.
    pub filesystem: String,
    /// The compiler that built the benches.
    pub rustc: String,
    /// `release` or `debug`: numbers of a debug build mean nothing.
    pub build: String,
    /// Start of the run, UTC.
    pub date: String,
}

impl Machine {
    /// Gathers the facts; `dir` is where the cases will run.
    pub fn gather(dir: &Path) -> Self {
        let read = |path: &str| read_to_string(path).unwrap_or_default();
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        Machine {
            cpu: value_of(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            kernel: format!(
                "{} {}",
                read("/proc/sys/kernel/ostype").trim(),
                read("/proc/sys/kernel/osrelease").trim()
            ),
            filesystem: filesystem_of(&dir, &read("/proc/self/mountinfo")),
            rustc: env!("CORTENKV_BENCH_RUSTC").to_string(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_string(),
            date: date_text(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
        }
    }
}

fn value_of(text: &str, name: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
        .unwrap_or_default()
        .trim()
        .to_string()
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = value_of(meminfo, "MemTotal");
    total.strip_suffix(" kB").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The mount with the longest path that holds `dir`; the last one, where several stand at one path.
fn filesystem_of(dir: &Path, mountinfo: &str) -> String {
    let mut best = (0, String::new());
    for line in mountinfo.lines() {
        let Some((place, device)) = line.split_once(" - ") else { continue };
        let Some(mount_point) = place.split(' ').nth(4) else { continue };
        let mut device = device.split(' ');
        let (kind, source) = (device.next().unwrap_or(""), device.next().unwrap_or(""));
        if dir.starts_with(mount_point) && mount_point.len() >= best.0 {
            best = (mount_point.len(), format!("{kind} on {source}"));
        }
    }
    best.1
}

/// RFC 3339 text of a time since 1970, UTC (days to civil date after H. Hinnant).
fn date_text(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_names_the_file_system() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      30 22 0:25 / /tmp rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(filesystem_of(Path::new("/tmp/x"), mounts), "tmpfs tmpfs".replace(' ', " on "));
        assert_eq!(filesystem_of(Path::new("/tmpx"), mounts), "ext4 on /dev/vda");
    }

    #[test]
    fn dates_are_civil() {
        let at = |seconds| date_text(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn this_machine_has_cores_a_kernel_and_a_compiler() {
        let machine = Machine::gather(Path::new("."));
        assert!(machine.cores > 0);
        assert!(machine.kernel.starts_with("Linux"));
        assert!(machine.rustc.starts_with("rustc"));
    }
}
