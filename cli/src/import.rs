//! `corten import`: puts a folder of files, JSON lines, TSV or CSV into a database, and goes on where it was stopped.
//!
//! # Layout
//! - `source`: what every source gives; `folder`, `jsonl`, `tsv`, `table` (CSV): the sources; `lines`, `file`: below them
//! - `loader`: records into atomic batches; `checkpoint`: how far an import has come; `progress`: bar and rate
//!
//! # Invariants
//! How far an import has come is committed in the same batch as the records, so a killed import is a prefix of its
//! source, and the next run goes on behind it.
//!
//! # Failure
//! A record that cannot be read or is over a limit is reported with its place and skipped; the others are imported, and
//! the exit code says so. `--strict` stops before the first.

mod checkpoint;
mod file;
mod folder;
mod jsonl;
mod lines;
mod loader;
mod progress;
mod source;
mod table;
mod tsv;

use std::path::{Path, PathBuf};

use crate::args::{Target, WriteOptions};
use crate::failure::{Exit, Failure, Result, note};
use crate::output::Output;
use crate::{open, units};

use checkpoint::Checkpoint;
use file::Input;
use loader::{Loader, Totals};
use progress::Meter;
use source::{Source, Step};
use table::Columns;

/// What the names of keyspaces start with that this tool made.
pub const OWN_KEYSPACES: &str = "corten.";

const EXAMPLES: &str = "\
Examples:
  corten import db /usr/share/doc                   key: relative path, value: content
  corten import db users.jsonl --key id             value: the line
  corten import db users.jsonl --key id --value name
  corten import db backup.jsonl                     the form that `corten export` writes
  corten import db cities.csv --key zip             value: the row as a JSON object
  corten import db cities.csv --key zip --value city --delimiter ';'
  corten import db pairs.tsv                        key TAB value, with the escapes of `corten scan`
  zcat log.jsonl.gz | corten import db - --key id

An import that was interrupted goes on where it stopped when it is started again in the same way; its progress is kept
in the keyspace corten.import until it is complete. Standard input has no place to go on from: it starts anew, which
writes the same values again. Symbolic links and special files in a folder are passed over.
A bad line or a file over the limit is reported and skipped: exit code 3.";

/// The command line of `corten import`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// A folder, a file, or - for standard input
    source: PathBuf,
    /// Format of the source; by its extension unless given, JSON lines for standard input
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// JSON lines: the field that is the key; CSV: the column
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// JSON lines: the field that is the value; CSV: the column. The whole line or row unless given
    #[arg(long, value_name = "NAME", requires = "key")]
    value: Option<String>,
    /// CSV: what stands between two fields
    #[arg(long, value_name = "CHARACTER", default_value_t = ',')]
    delimiter: char,
    /// TSV: take backslashes as they are
    #[arg(long)]
    raw: bool,
    /// Stop before the first record that cannot be imported
    #[arg(long)]
    strict: bool,
    /// Start at the beginning, even if this import was interrupted before
    #[arg(long)]
    restart: bool,
    /// Print a summary as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    write: WriteOptions,
}

impl Options {
    fn columns(&self) -> Columns<'_> {
        let key = self.key.as_deref().expect("CSV without --key was refused");
        Columns { delimiter: self.delimiter as u8, key, value: self.value.as_deref() }
    }
}

/// The format of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A folder: the relative path is the key, the content the value
    Folder,
    /// JSON lines
    Jsonl,
    /// Key and value with a tab between them, escaped
    Tsv,
    /// CSV with a header
    Csv,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Folder => "folder",
            Format::Jsonl => "jsonl",
            Format::Tsv => "tsv",
            Format::Csv => "csv",
        }
    }
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let format = format_of(&options)?;
    check_options(&options, format)?;
    // What is refused must not leave an empty database.
    let mut input = Input::open(&options.source)?;
    let Target { db: path, keyspace } = &options.target;
    open::check_legal(keyspace, b"")?;
    if format == Format::Csv {
        table::check_columns(&mut input, &options.columns())?;
    }
    let db = open::or_create(path, quiet, |builder| options.write.apply(builder))?;
    let target = db.keyspace(keyspace)?;

    let Options { key, value, delimiter, raw, .. } = &options;
    let fields = serde_json::json!([key, value, delimiter, raw]).to_string();
    let mut checkpoint = Checkpoint::open(&db, &input, &[format.name(), &fields, keyspace])?;
    let start = checkpoint.load(options.restart)?;
    let mut source = make_source(&options, format, input, start.position.as_ref())?;
    let mut meter = Meter::start(source.as_ref(), start.totals, quiet)?;
    let mut loader = Loader::new(&db, target, checkpoint, &start);

    let loaded = load(source.as_mut(), &mut loader, &mut meter, options.strict);
    meter.finish();
    let totals = loader.totals();
    let loaded = loaded.and_then(|()| {
        // DURABILITY: a finished import is on the disk, whatever the mode was.
        db.flush()?;
        Ok(db.close()?)
    });
    if !quiet {
        note(&meter.summary(totals, source.passed_over(), loaded.is_ok()));
    }
    if options.json {
        let mut output = Output::stdout();
        output.json(&meter.json(totals, path.display().to_string(), keyspace, loaded.is_ok()))?;
        output.finish()?;
    }
    loaded.and_then(|()| partial(totals))
}

fn partial(totals: Totals) -> Result<()> {
    if totals.skipped == 0 {
        return Ok(());
    }
    let skipped = units::counted(totals.skipped, "record");
    let message = format!("{skipped} of the source skipped; everything else is in the database");
    Err(Failure::new(Exit::Partial, message))
}

fn load(
    source: &mut dyn Source,
    loader: &mut Loader<'_>,
    meter: &mut Meter,
    strict: bool,
) -> Result<()> {
    loop {
        let rejected = match source.next()? {
            Step::Record(record) => match loader.add(record, source)? {
                None => {
                    meter.update(source, loader.totals());
                    continue;
                }
                Some(reason) => reason,
            },
            Step::Rejected(reason) => reason,
            Step::End => return loader.complete(),
        };
        let message = format!("{}: {rejected}", source.place());
        if strict {
            let before = source.position()?;
            loader.commit(before)?;
            return Err(Failure::new(
                Exit::Partial,
                format!("{message}; stopped before it, start again to go on from there"),
            ));
        }
        loader.skip();
        meter.rejected(&format!("{message}; skipped"));
    }
}

fn make_source(
    options: &Options,
    format: Format,
    input: Input,
    start: Option<&source::Position>,
) -> Result<Box<dyn Source>> {
    Ok(match format {
        Format::Folder => Box::new(folder::Folder::open(input, &options.target.db, start)?),
        Format::Jsonl => {
            let fields = options.key.clone().map(|key| (key, options.value.clone()));
            Box::new(jsonl::JsonLines::open(input, fields, start)?)
        }
        Format::Tsv => Box::new(tsv::Tsv::open(input, options.raw, start)?),
        Format::Csv => Box::new(table::Table::open(input, &options.columns(), start)?),
    })
}

/// The format that is given, or the one that the name tells.
fn format_of(options: &Options) -> Result<Format> {
    let is_folder = options.source.is_dir();
    let format = match options.format {
        Some(format) => format,
        None if is_folder => Format::Folder,
        None if options.source == Path::new("-") => Format::Jsonl,
        None => by_extension(&options.source)?,
    };
    if is_folder == (format == Format::Folder) || !options.source.exists() {
        return Ok(format);
    }
    let (source, is) = (options.source.display(), if is_folder { "a folder" } else { "no folder" });
    Err(Failure::usage(format!(
        "{source} is {is}, so --format {} does not fit; leave --format out, or name another source",
        format.name()
    )))
}

fn by_extension(path: &Path) -> Result<Format> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "jsonl" | "ndjson" | "json" => Ok(Format::Jsonl),
        "tsv" | "tab" => Ok(Format::Tsv),
        "csv" => Ok(Format::Csv),
        _ if !path.exists() => Err(Failure::new(
            Exit::Absent,
            format!("there is no file or folder {}", path.display()),
        )),
        _ => Err(Failure::usage(format!(
            "the name of {} does not tell its format; give --format jsonl, tsv or csv",
            path.display()
        ))),
    }
}

/// Refuses options that mean nothing with a format.
fn check_options(options: &Options, format: Format) -> Result<()> {
    let wrong = |message: &str| Err(Failure::usage(message));
    match format {
        Format::Csv if options.key.is_none() => {
            return wrong("CSV needs --key COLUMN, the column whose fields are the keys");
        }
        Format::Folder | Format::Tsv if options.key.is_some() => {
            return wrong("--key is for JSON lines and CSV; leave it out");
        }
        _ => {}
    }
    if options.target.keyspace.starts_with(OWN_KEYSPACES) {
        return wrong(&loader::own(&options.target.keyspace));
    }
    if options.raw && format != Format::Tsv {
        return wrong("--raw is for TSV; leave it out");
    }
    if !options.delimiter.is_ascii() {
        return wrong("--delimiter is one ASCII character");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_format() {
        let format = |name: &str| by_extension(Path::new(name)).ok();
        assert_eq!(format("a.jsonl"), Some(Format::Jsonl));
        assert_eq!(format("a.CSV"), Some(Format::Csv));
        assert_eq!(format("dir.csv/a.tsv"), Some(Format::Tsv));
        assert_eq!(format("a"), None);
        assert_eq!(format("/dev/null"), None);
    }
}
