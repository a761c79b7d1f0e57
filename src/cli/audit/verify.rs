use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::{COULD_NOT, Load, NO, Output};
use crate::audit::{ChainReport, Head, Report, Verify, shown, signing_key_path};

/// Needs only the public key, and trusts no key found in the log.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  remit audit verify audit
  remit audit verify /mnt/evidence/audit --key audit.pub --expect 8123:5f0c…

Exit codes: 0 verified, 1 not verified, 2 usage, 3 could not be read.

A cut at the end cannot be seen in the log itself: give --expect the head that `remit run` printed
last, or that the metric remit_audit_head showed.")]
pub struct VerifyArgs {
    /// Directories, or files of a log.
    #[arg(value_name = "DIR|FILE", required_unless_present = "config")]
    pub paths: Vec<PathBuf>,
    /// The public key [default: audit.pub beside the directory, or in it].
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A head seen earlier: proves that nothing up to it was cut off.
    #[arg(long, value_name = "SEQ:HASH")]
    pub expect: Option<Head>,
    /// Count records that no signature covers yet as not verified.
    #[arg(long)]
    pub sealed: bool,
    /// Verify the log that this configuration writes.
    #[arg(long, value_name = "FILE", conflicts_with = "paths")]
    pub config: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

pub(super) fn run(args: &VerifyArgs, load: Load) -> ExitCode {
    let mut verify = Verify { paths: args.paths.clone(), key: args.key.clone(), expect: args.expect };
    if let Some(file) = &args.config {
        match load(file) {
            Ok(config) => {
                verify.paths = super::dirs(&config.audit);
                verify.key = verify.key.or_else(|| signing_key_path(&config.audit).map(|key| key.with_extension("pub")));
            }
            Err(problems) => return super::fail_all(&problems),
        }
    }
    if verify.paths.is_empty() {
        return super::usage("there is no directory to verify: the configuration writes none");
    }
    let report = match verify.run() {
        Ok(report) => report,
        Err(problem) => return super::fail(&problem),
    };
    let verified = report.verified() && (!args.sealed || report.sealed());
    let mut out = io::stdout().lock();
    let written = match args.output {
        Output::Text => text(&mut out, &report, verified, args.key.is_some() || args.config.is_some()),
        Output::Json => json(&mut out, &report, verified),
    };
    match written {
        Err(_) => ExitCode::from(COULD_NOT),
        Ok(()) if verified => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(NO),
    }
}

fn json(out: &mut impl Write, report: &Report, verified: bool) -> io::Result<()> {
    let mut value = serde_json::to_value(report)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("verified".into(), verified.into());
        object.insert("mb_per_second".into(), report.speed().round().into());
    }
    writeln!(out, "{value}")
}

fn text(out: &mut impl Write, report: &Report, verified: bool, given: bool) -> io::Result<()> {
    let found = if given { "" } else { ", found beside the log: who could change the log could change it too" };
    writeln!(out, "key       {} ({}{found})", shown(&report.key.path.display().to_string()), report.key.fingerprint)?;
    for chain in &report.chains {
        writeln!(out, "chain     {}", shown(&describe(chain)))?;
    }
    if let Some(expected) = &report.expected {
        let found = if expected.found { "is in the log" } else { "is in no chain: what came up to it was cut off or rewritten" };
        writeln!(out, "expected  {} {found}", expected.head)?;
    }
    let records: u64 = report.chains.iter().map(|c| c.records).sum();
    let speed = format!("{records} records, {:.1} MB at {:.0} MB/s", report.bytes as f64 / 1e6, report.speed());
    for fault in report.chains.iter().filter_map(|c| c.fault.as_ref()) {
        writeln!(out, "fault     {}", shown(&fault.to_string()))?;
    }
    if report.chains.is_empty() {
        writeln!(out, "not verified: there is no chain here")
    } else {
        writeln!(out, "{}: {speed}", if verified { "verified" } else { "NOT VERIFIED" })
    }
}

/// `NAME: 120 records in 2 files, from record 1; sealed to 120; closed`
fn describe(chain: &ChainReport) -> String {
    let mut text = format!("{}: {} in {}", chain.chain, many(chain.records, "record"), many(chain.files.len() as u64, "file"));
    if chain.first > 1 {
        text += &format!("; begins at record {}: earlier files are not here", chain.first);
    }
    text += &format!("; sealed to {}", chain.sealed);
    if chain.tail > 0 {
        text += &format!("; unsealed tail of {}", many(chain.tail, "record"));
    }
    if chain.torn > 0 {
        text += &format!("; an unfinished line of {} behind it", many(chain.torn, "byte"));
    }
    text += match (chain.closed, chain.live, &chain.fault) {
        (_, _, Some(_)) => "; read up to the fault",
        (true, ..) => "; closed",
        (false, true, None) => "; being written",
        (false, false, None) => "; not closed: its process died, or its end was cut off",
    };
    if chain.open > 0 && !chain.live && chain.fault.is_none() {
        text += &format!("; {} without outcome", many(chain.open, "call"));
    }
    if chain.orphans > 0 {
        text += &format!("; {} without decision", many(chain.orphans, "outcome"));
    }
    text
}

fn many(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::{Expected, Fault, KeyUsed, What};

    fn said(chain: ChainReport) -> String {
        let report = Report {
            key: KeyUsed { path: "audit.pub".into(), fingerprint: "0123".into() },
            chains: vec![chain],
            expected: Some(Expected { head: "9:ab".into(), found: false }),
            bytes: 2_000_000,
            took: Duration::from_millis(10),
        };
        let mut out = Vec::new();
        text(&mut out, &report, report.verified(), true).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_how_far_a_log_is_sealed_and_what_is_wrong() {
        let chain =
            ChainReport { chain: "c".into(), files: vec!["f".into()], first: 1, records: 10, sealed: 8, tail: 2, ..ChainReport::default() };
        let text = said(ChainReport { torn: 1, ..chain.clone() });
        for part in [
            "10 records in 1 file",
            "sealed to 8",
            "unsealed tail of 2 records",
            "an unfinished line of 1 byte",
            "not closed",
            "NOT VERIFIED",
            "200 MB/s",
            "9:ab is in no chain",
        ] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        let fault = Fault {
            what: What::Edited,
            file: "a/f.jsonl".into(),
            line: 6,
            seq: 5,
            id: Some("d-1\u{1b}[2J".into()),
            time: Some("T".into()),
            message: "does not hash to what it says".into(),
        };
        let text = said(ChainReport { fault: Some(fault), ..chain });
        assert!(text.contains("a/f.jsonl:6: record 5 (d-1\\u{1b}[2J, T) does not hash"), "{text}");
    }
}
