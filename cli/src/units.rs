//! Quantities as people write and read them: bytes, counts, times, durability modes.

use std::time::Duration;

use cortenkv::Durability;

/// `12345678` as `12,345,678`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun, in the plural where there is not just one.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `1536` as `1.5 KiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time with three digits: `1.23 ms`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 1e-6 => return format!("{} ns", duration.as_nanos()),
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// How often something happens a second.
pub fn rate(n: u64, elapsed: Duration) -> u64 {
    // Below a microsecond no rate means anything.
    (n as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
}

/// Reads `500ms`, `10s`, `5m`, `2h`, `7d`.
///
/// # Errors
/// Anything else, for clap.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no time; write a number with ms, s, m, h or d, as in 500ms or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads `always`, `group`, `every=N`, `interval=TIME`, `checkpoint`, `none`.
///
/// # Errors
/// Anything else, for clap.
pub fn parse_durability(text: &str) -> Result<Durability, String> {
    let wrong = || {
        format!(
            "`{text}` is no durability; there are always, group, every=N, interval=TIME (interval=100ms), checkpoint \
             and none"
        )
    };
    Ok(match text.split_once('=') {
        None => match text {
            "always" => Durability::Always,
            "group" => Durability::group(),
            "checkpoint" => Durability::Checkpoint,
            "none" => Durability::None,
            _ => return Err(wrong()),
        },
        Some(("every", n)) => Durability::EveryN(n.parse().map_err(|_| wrong())?),
        Some(("interval", time)) => Durability::Interval(parse_duration(time)?),
        Some(_) => return Err(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!(
            [count(0), count(999), count(1000), count(1234567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [bytes(1023), bytes(1536), bytes(1 << 20), bytes(u64::MAX)],
            ["1023 B", "1.5 KiB", "1.0 MiB", "16384.0 PiB"]
        );
        let times = [5, 1_230, 45_600, 789_000_000].map(|ns| time(Duration::from_nanos(ns)));
        assert_eq!(times, ["5 ns", "1.23 us", "45.6 us", "789 ms"]);
        assert_eq!([counted(1, "file"), counted(2000, "file")], ["1 file", "2,000 files"]);
        assert_eq!(rate(10, Duration::from_millis(500)), 20);
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("2h").unwrap(), Duration::from_secs(7200));
        for text in
            ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_durability_has_a_name() {
        assert_eq!(parse_durability("group").unwrap(), Durability::group());
        assert_eq!(parse_durability("every=100").unwrap(), Durability::EveryN(100));
        let interval = Durability::Interval(Duration::from_millis(20));
        assert_eq!(parse_durability("interval=20ms").unwrap(), interval);
        for text in ["", "Group", "every", "every=", "every=x", "interval=5", "none=1"] {
            assert!(parse_durability(text).is_err(), "{text}");
        }
    }
}
