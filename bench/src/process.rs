//! What this process uses: memory by kind, and processor time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Resident memory in bytes. Zero where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The most that was resident since the process began.
    pub peak_bytes: u64,
    /// Resident now and not backed by a file: heap and stacks.
    pub anonymous_bytes: u64,
    /// Resident now and backed by a file: mappings, the program itself.
    pub file_bytes: u64,
}

/// Memory of this process, from `/proc/self/status`.
pub fn memory() -> Memory {
    parse_status(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn parse_status(status: &str) -> Memory {
    let bytes_of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.unwrap_or(0) * 1024
    };
    Memory {
        peak_bytes: bytes_of("VmHWM"),
        anonymous_bytes: bytes_of("RssAnon"),
        file_bytes: bytes_of("RssFile") + bytes_of("RssShmem"),
    }
}

/// Bytes that this process has sent to the disk, or made dirty in the page cache for it, from `/proc/self/io`. Zero where
/// the kernel does not say.
pub fn written_bytes() -> u64 {
    parse_io(&std::fs::read_to_string("/proc/self/io").unwrap_or_default())
}

fn parse_io(io: &str) -> u64 {
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

/// Processor time that this process has used, in user and kernel mode, over all threads.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_memory_are_read_from_the_status_file() {
        let status =
            "Name:\tx\nVmHWM:\t    2048 kB\nRssAnon:\t 10 kB\nRssFile:\t 3 kB\nRssShmem:\t1 kB\n";
        let expected =
            Memory { peak_bytes: 2 << 20, anonymous_bytes: 10 << 10, file_bytes: 4 << 10 };
        assert_eq!(parse_status(status), expected);
        assert_eq!(parse_status("nothing here"), Memory::default());
    }

    #[test]
    fn written_bytes_are_read_from_the_io_file() {
        let io = "rchar: 5\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n";
        assert_eq!((parse_io(io), parse_io("")), (4096, 0));
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(memory().peak_bytes > 0);
        let before = cpu_time();
        let mut random = crate::seed::SplitMix64::new(1);
        while cpu_time() <= before {
            std::hint::black_box(random.next_u64());
        }
    }
}
