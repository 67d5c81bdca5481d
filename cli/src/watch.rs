//! `corten watch`: shows the changes of a database in their order.

use std::path::PathBuf;
use std::time::Duration;

use cortenkv::{Change, ChangeEvent, WatchOptions};

use crate::failure::Result;
use crate::output::Output;
use crate::{args, open, text};

const EXAMPLES: &str = "\
Examples:
  corten watch db --name mirror --ack          what came since the last time, and keep what comes
  corten watch db --name mirror --from 0       all that the log still has
  corten watch db --name mirror --keyspace users --prefix eu/ --json

It opens the database, so no other process can have it open meanwhile, and it ends behind the last change; a program that
has the database open follows it with `Db::watch`. What was not acknowledged is kept on disk under the name, up to 1 GiB;
--release ends that. If a part of the log is gone the exit code is 10.";

/// The command line of `corten watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB")]
    db: PathBuf,
    /// The name under which the place in the log is kept
    #[arg(long, value_name = "NAME", default_value = "corten.watch")]
    name: String,
    /// Begin behind this commit; 0 is the beginning of the log
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Only changes of this keyspace
    #[arg(long, short, value_name = "NAME")]
    keyspace: Option<String>,
    /// Only keys that start with this
    #[arg(long, value_name = "KEY")]
    prefix: Option<std::ffi::OsString>,
    /// Acknowledge what was shown: it does not come again under this name
    #[arg(long)]
    ack: bool,
    /// Keep nothing under this name from now on
    #[arg(long, conflicts_with = "ack")]
    release: bool,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::resting(&options.db, quiet, open::Look::default())?;
    let mut watch = WatchOptions::new(&options.name);
    if let Some(seq) = options.from {
        watch = watch.from(seq);
    }
    if let Some(name) = &options.keyspace {
        open::keyspace(&db, name)?;
        watch = watch.keyspace(name);
    }
    if let Some(prefix) = options.prefix.clone() {
        watch = watch.prefix(args::bytes(prefix, false)?);
    }
    let mut feed = db.watch(watch)?;
    let mut output = Output::stdout();
    while let Some(event) = feed.next_timeout(Duration::ZERO)? {
        match options.json {
            true => output.line(&json(&event))?,
            false => output.line(&line(&event))?,
        }
    }
    output.finish()?;
    if options.release {
        feed.release()?;
    } else {
        if options.ack {
            feed.ack(feed.position())?;
        }
        drop(feed);
    }
    Ok(db.close()?)
}

fn line(event: &ChangeEvent) -> String {
    let ChangeEvent { seq, index, keyspace, key, change, .. } = event;
    let (keyspace, key) = (text::escaped(keyspace.as_bytes()), text::escaped(key));
    match change {
        Change::Put { value, .. } => {
            format!("{seq}\t{index}\tput\t{keyspace}\t{key}\t{}", text::escaped(value))
        }
        Change::Delete => format!("{seq}\t{index}\tdelete\t{keyspace}\t{key}"),
    }
}

fn json(event: &ChangeEvent) -> String {
    let ChangeEvent { seq, index, keyspace, key, change, .. } = event;
    let mut object = serde_json::json!({ "seq": seq, "index": index, "keyspace": **keyspace });
    let mut member = |name: &str, bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => object[name] = text.into(),
        Err(_) => object[format!("{name}_hex")] = text::hexed(bytes).into(),
    };
    member("key", key);
    match change {
        Change::Put { value, expires_at_ms } => {
            member("value", value);
            object["change"] = "put".into();
            if let Some(at_ms) = expires_at_ms {
                object["expires_at_ms"] = (*at_ms).into();
            }
        }
        Change::Delete => object["change"] = "delete".into(),
    }
    object.to_string()
}
