use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Load;
use crate::{
    audit::{cloud_event, export},
    problem::Problem,
};

/// One CloudEvents 1.0 object a line, whose data is an OCSF API Activity (class 6003). A call has the same id in every
/// export, so that what is delivered twice can be told. Calls that are not over yet are left out, and counted on stderr.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  remit audit export audit --since 24h > calls.jsonl
  remit audit export --config remit.yaml --since 2026-11-24T00:00:00Z --until 2026-11-25T00:00:00Z")]
pub struct ExportArgs {
    /// The directories of the logs.
    #[arg(value_name = "DIR", required_unless_present = "config")]
    pub dirs: Vec<PathBuf>,
    /// Calls decided from then on: a time (RFC 3339), or how long ago, such as 24h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<OffsetDateTime>,
    /// Calls decided before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<OffsetDateTime>,
    /// Export the log that this configuration writes.
    #[arg(long, value_name = "FILE", conflicts_with = "dirs")]
    pub config: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs, load: Load) -> ExitCode {
    let dirs = match super::asked(&args.dirs, args.config.as_deref(), load) {
        Ok(dirs) => dirs,
        Err(code) => return code,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = export(&dirs, args.since, args.until, |call, task| writeln!(out, "{}", cloud_event(call, task)));
    match done.and_then(|done| out.flush().map(|()| done)) {
        Ok(done) => {
            if done.open > 0 {
                eprintln!("remit: calls that are not over were left out: {}", done.open);
            }
            ExitCode::SUCCESS
        }
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => super::fail(&Problem::new(format!("the log cannot be exported: {e}"))),
    }
}

/// A time, or a duration before now.
fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let wrong = || "write a time such as 2026-11-24T00:00:00Z, or how long ago, such as 24h or 7d".to_owned();
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count()).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let ago = number.parse::<i64>().ok().and_then(|n| n.checked_mul(seconds)).ok_or_else(wrong)?;
    crate::clock::utc().checked_sub(time::Duration::seconds(ago)).ok_or_else(wrong)
}
