//! What Snappy saves and costs: batches of JSON-like records, with and without it.

use std::sync::Arc;
use std::time::Instant;

use cortenkv_wal::{Batch, Durability, Wal, WalOptions};

use crate::cortenkv_log::{IgnoreRecords, promise_of};
use crate::counting_vfs::CountingVfs;
use crate::error::{Context, Result};
use crate::latency::Latency;
use crate::process::cpu_time;
use crate::report::Row;
use crate::seed::SplitMix64;
use crate::suite::{Case, CaseContext, Conclusion, Outcome, Plan, Suite};
use crate::suites::extra;

/// Records in a batch: some 12 KiB, so that a commit is worth compressing.
const BATCH_RECORDS: u64 = 64;

/// See the module.
pub struct WalCompress;

impl Suite for WalCompress {
    fn name(&self) -> &'static str {
        "wal-compress"
    }

    fn about(&self) -> &'static str {
        "Batches of 64 JSON-like records, Snappy off and on: bytes that reach the file and processor time per record."
    }

    fn cases(&self, _plan: &Plan) -> Vec<Case> {
        vec![case("plain", false), case("snappy", true)]
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let bytes = |case| extra(medians, case, "written_bytes_per_payload_byte");
        let (Some(plain), Some(snappy)) = (bytes("plain"), bytes("snappy")) else {
            return Vec::new();
        };
        let text = "bytes written without Snappy over bytes written with it".to_string();
        vec![Conclusion { text, value: plain / snappy, goal: Some(1.5) }]
    }
}

fn case(name: &str, compression: bool) -> Case {
    Case {
        name: name.into(),
        settings: format!(
            "Durability::None, compression {compression}, batches of {BATCH_RECORDS} records"
        ),
        promise: promise_of(Durability::None),
        threads: 1,
        prepare: None,
        run: Box::new(move |context| run(context, compression)),
    }
}

fn run(context: &CaseContext<'_>, compression: bool) -> Result<Outcome> {
    let vfs = CountingVfs::counting_stores();
    let options = WalOptions::default()
        .durability(Durability::None)
        .compression(compression)
        .vfs(Arc::new(vfs.clone()));
    let (wal, _) = Wal::open(context.dir.join("log"), options, Arc::new(IgnoreRecords))
        .context(|| "cannot open the log".into())?;
    let mut random = SplitMix64::new(context.plan.seed);
    let (mut batch, mut key, mut value) = (Batch::new(), String::new(), String::new());
    let (mut latency, mut payload_bytes, mut records) = (Latency::new(), 0, 0);
    let written_before = vfs.counts().written_bytes;
    let (start, cpu_before) = (Instant::now(), cpu_time());
    while records < context.plan.records {
        batch.clear();
        for _ in 0..BATCH_RECORDS {
            records += 1;
            json_record(&mut random, records, &mut key, &mut value);
            payload_bytes += key.len() + value.len();
            batch
                .put(0, key.as_bytes(), value.as_bytes())
                .context(|| "cannot add a record to the batch".into())?;
        }
        let from = Instant::now();
        wal.append(&batch).context(|| "cannot append a batch".into())?;
        latency.record(from.elapsed());
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu_before);
    wal.sync().context(|| "cannot sync the log".into())?;
    let written_bytes = vfs.counts().written_bytes - written_before;
    wal.close().context(|| "cannot close the log".into())?;
    let mut outcome = Outcome::of_pass(records, elapsed, cpu);
    outcome.latency.insert("append of a batch".into(), latency.summary());
    let ratio = written_bytes as f64 / payload_bytes as f64;
    outcome.extra.insert("written_bytes_per_payload_byte".into(), ratio);
    outcome.extra.insert("payload_bytes".into(), payload_bytes as f64);
    Ok(outcome)
}

/// A user record as services keep them: the same field names each time, small numbers, few words.
fn json_record(random: &mut SplitMix64, number: u64, key: &mut String, value: &mut String) {
    use std::fmt::Write;
    const CITIES: [&str; 6] = ["Vienna", "Lisbon", "Osaka", "Nairobi", "Toronto", "Lima"];
    const PLANS: [&str; 3] = ["free", "team", "enterprise"];
    key.clear();
    value.clear();
    let (city, plan) = (CITIES[random.below(6) as usize], PLANS[random.below(3) as usize]);
    let (age, visits, active) = (18 + random.below(60), random.below(10_000), random.below(2) == 1);
    let token = random.next_u64();
    // Writing to a String cannot fail.
    let _ = write!(key, "user/{number:010}");
    let _ = write!(
        value,
        "{{\"id\":{number},\"name\":\"user{number}\",\"email\":\"user{number}@example.com\",\"city\":\"{city}\",\
         \"plan\":\"{plan}\",\"age\":{age},\"visits\":{visits},\"active\":{active},\"token\":\"{token:016x}\"}}"
    );
}
