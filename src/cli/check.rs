//! `remit check`: load everything, say what is wrong, where.

mod review;

use std::{fs::File, io, io::Write as _, path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    config::{Config, Sink},
    enforce::Rules,
    problem::{Problem, Problems},
};

/// Load a config with all it names, and say what is wrong
///
/// Reads the config, the registry, the catalogs, the policies and the credentials, and prints every problem with its
/// file, line and key. Nothing is started and nothing is sent. Exits with 0 when it is right, 1 when not.
///
/// Warns of agents that nobody owns, that expire within 30 days, that were not reviewed in `review_every`, and, where
/// the audit reaches back that far, of agents that made no call and grants that were not used for 30 days.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  remit check --config remit.yaml")]
pub struct Args {
    /// The config to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The audit that says what was used [default: the one that the config writes]
    #[arg(long, value_name = "DIR", conflicts_with = "no_audit")]
    audit: Option<PathBuf>,
    /// Say nothing of what was used
    #[arg(long)]
    no_audit: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One problem a line: FILE:LINE: KEY: MESSAGE; HELP
    Text,
    /// One JSON object
    Json,
}

const IS_WRONG: u8 = 1;
const COULD_NOT: u8 = 3;

/// Runs the command: 0 when all is right, 1 when something is wrong, 3 when the config cannot be read.
///
/// `load` builds what a running Remit would build from a config (catalogs, policies, credentials), with what it
/// warns of. A warning is printed and does not make a config wrong.
pub fn run(args: &Args, load: impl FnOnce(&Config) -> Result<(Rules, Vec<Problem>), Problems>) -> ExitCode {
    let look = |config: &Config, rules: &Rules| {
        let own = config.audit.sinks.iter().find_map(|s| if let Sink::Dir(dir) = s { Some(dir.clone()) } else { None });
        let audit = args.audit.clone().or(own).filter(|dir| !args.no_audit && dir.is_dir());
        review::findings(rules, audit.as_deref(), crate::clock::utc())
    };
    checked(args, load, look)
}

fn checked<R>(
    args: &Args,
    load: impl FnOnce(&Config) -> Result<(R, Vec<Problem>), Problems>,
    look: impl FnOnce(&Config, &R) -> Vec<Problem>,
) -> ExitCode {
    if let Err(e) = File::open(&args.config) {
        eprintln!("remit check: {}: {e}", args.config.display());
        return ExitCode::from(COULD_NOT);
    }
    let found = check(args, load, look);
    let wrong = found.is_err();
    let text = match args.output {
        Output::Text => as_text(args, &found),
        Output::Json => format!("{}\n", as_json(args, &found)),
    };
    // a closed pipe does not make a config right
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::from(if wrong { IS_WRONG } else { 0 })
}

/// A config that is right, and what is still to be said about it.
struct Right {
    config: Config,
    warnings: Vec<Problem>,
}

fn check<R>(
    args: &Args,
    load: impl FnOnce(&Config) -> Result<(R, Vec<Problem>), Problems>,
    look: impl FnOnce(&Config, &R) -> Vec<Problem>,
) -> Result<Right, Problems> {
    let config = Config::load(&args.config)?;
    let (loaded, mut warnings) = load(&config)?;
    warnings.extend(look(&config, &loaded));
    Ok(Right { config, warnings })
}

fn as_text(args: &Args, found: &Result<Right, Problems>) -> String {
    match found {
        Ok(Right { config, warnings }) => format!(
            "{}{}: right: {}, {}, {}\n",
            warnings.iter().map(|w| format!("warning: {w}\n")).collect::<String>(),
            args.config.display(),
            count(config.registry.agents.len(), "agent"),
            count(config.registry.workflows.len(), "workflow"),
            count(config.credentials.len(), "credential")
        ),
        Err(problems) => format!("{problems}\n"),
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn as_json(args: &Args, found: &Result<Right, Problems>) -> Value {
    // a path that is not UTF-8 is no JSON text as it stands
    let config_file = args.config.display().to_string();
    match found {
        Ok(Right { config, warnings }) => json!({
            "config": config_file,
            "valid": true,
            "problems": [],
            "warnings": warnings.iter().map(problem).collect::<Vec<_>>(),
            "agents": config.registry.agents.len(),
            "workflows": config.registry.workflows.len(),
            "credentials": config.credentials.len(),
            "files": config.files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>(),
        }),
        Err(problems) => {
            let problems: Vec<Value> = problems.0.iter().map(problem).collect();
            json!({"config": config_file, "valid": false, "problems": problems})
        }
    }
}

fn problem(p: &Problem) -> Value {
    let file = p.file.as_ref().map(|f| f.display().to_string());
    json!({"file": file, "line": p.line, "key": p.key, "message": p.message, "help": p.help})
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn args(config: &str) -> Args {
        Args {
            config: Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(config),
            output: Output::Text,
            audit: None,
            no_audit: true,
        }
    }

    fn nothing_more<R>(_: &Config, _: &R) -> Vec<Problem> {
        Vec::new()
    }

    fn nothing(_: &Config) -> Result<((), Vec<Problem>), Problems> {
        Ok(((), Vec::new()))
    }

    #[test]
    fn a_right_config_is_counted() {
        let args = args("small.yaml");
        let found = check(&args, nothing, nothing_more);
        assert!(as_text(&args, &found).ends_with("small.yaml: right: 1 agent, 1 workflow, 1 credential\n"));
        let json = as_json(&args, &found);
        assert_eq!((&json["valid"], &json["agents"], json["files"].as_array().unwrap().len()), (&json!(true), &json!(1), 1));
    }

    #[test]
    fn what_the_rooms_find_counts_too() {
        let args = args("small.yaml");
        let found = check(
            &args,
            |_| Err::<((), _), _>(Problem::new("rule is undefined").at("a.rego", Some(3)).help("define it").into()),
            nothing_more,
        );
        assert_eq!(as_text(&args, &found), "a.rego:3: rule is undefined; define it\n");
        let want = json!([{"file": "a.rego", "line": 3, "key": null, "message": "rule is undefined", "help": "define it"}]);
        assert_eq!(as_json(&args, &found)["problems"], want);
    }

    #[test]
    fn a_warning_is_printed_and_leaves_the_config_right() {
        let args = args("small.yaml");
        let found = check(&args, |_| Ok(((), vec![Problem::new("GITHUB_TOKEN is not set").at("remit.yaml", Some(3))])), nothing_more);
        let text = as_text(&args, &found);
        assert!(text.starts_with("warning: remit.yaml:3: GITHUB_TOKEN is not set\n") && text.contains(": right: "), "{text}");
        assert_eq!(as_json(&args, &found)["warnings"][0]["line"], 3);
    }

    #[test]
    fn the_exit_code_tells_right_from_wrong_from_unreadable() {
        let wrong = |_: &Config| Err::<((), _), _>(Problem::new("no").into());
        for (config, code, got) in [
            ("small.yaml", 0, checked(&args("small.yaml"), nothing, nothing_more)),
            ("small.yaml", 1, checked(&args("small.yaml"), wrong, nothing_more)),
            ("credentials.yaml", 1, checked(&args("credentials.yaml"), nothing, nothing_more)),
            ("nowhere.yaml", 3, checked(&args("nowhere.yaml"), nothing, nothing_more)),
        ] {
            assert_eq!(format!("{got:?}"), format!("{:?}", ExitCode::from(code)), "{config}");
        }
    }
}
