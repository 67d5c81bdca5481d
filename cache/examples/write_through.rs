//! A list as a store, written through the front that buffers nothing: `cargo run -p cortenkv-cache --example write_through`.

use std::convert::Infallible;
use std::sync::Mutex;

use cortenkv_cache::{Change, Group, Write, WriteBack, WriteFront, WriteThrough};

/// Each group becomes one line. Memory is as durable as this store gets.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl WriteBack for Lines {
    type Error = Infallible;

    fn append(&self, group: &Group<'_>) -> Result<u64, Infallible> {
        let show = |write: &Write<'_>| match write.change {
            Change::Put { value, .. } => {
                format!("{}={}", write.key.escape_ascii(), value.escape_ascii())
            }
            Change::Delete => format!("{} deleted", write.key.escape_ascii()),
        };
        let mut lines = self.0.lock().expect("no panic while locked");
        lines.push(group.writes().iter().map(show).collect::<Vec<_>>().join(", "));
        Ok(lines.len() as u64)
    }

    fn durable_seq(&self) -> u64 {
        self.0.lock().expect("no panic while locked").len() as u64
    }

    fn sync(&self) -> Result<u64, Infallible> {
        Ok(self.durable_seq())
    }
}

fn main() -> Result<(), Infallible> {
    let front = WriteThrough::new(Lines::default());
    let put =
        |key, value| Write { keyspace: 0, key, change: Change::Put { value, expires_at_ms: None } };
    let delete = |key| Write { keyspace: 0, key, change: Change::Delete };
    println!("{:?}", front.write(&[put(b"b", b"1"), put(b"a", b"2"), put(b"b", b"3")])?);
    println!("{:?}", front.write(&[delete(b"a")])?);
    println!("durable up to {}, waiting: {:?}", front.flush()?, front.pending());
    for (n, line) in front.store().0.lock().expect("no panic while locked").iter().enumerate() {
        println!("{}: {line}", n + 1);
    }
    Ok(())
}
