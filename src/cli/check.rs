//! `remit check`: load everything, say what is wrong, where.

use std::{fs::File, io, io::Write as _, path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    config::Config,
    problem::{Problem, Problems},
};

/// Load a config with all it names, and say what is wrong
///
/// Reads the config, the registry, the catalogs, the policies and the credentials, and prints every problem with its
/// file, line and key. Nothing is started and nothing is sent. Exits with 0 when it is right, 1 when not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  remit check --config remit.yaml")]
pub struct Args {
    /// The config to check
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
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
pub fn run<R>(args: &Args, load: impl FnOnce(&Config) -> Result<(R, Vec<Problem>), Problems>) -> ExitCode {
    if let Err(e) = File::open(&args.config) {
        eprintln!("remit check: {}: {e}", args.config.display());
        return ExitCode::from(COULD_NOT);
    }
    let found = check(args, load);
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

fn check<R>(args: &Args, load: impl FnOnce(&Config) -> Result<(R, Vec<Problem>), Problems>) -> Result<Right, Problems> {
    let config = Config::load(&args.config)?;
    let (_, warnings) = load(&config)?;
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
        Args { config: Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(config), output: Output::Text }
    }

    fn nothing(_: &Config) -> Result<((), Vec<Problem>), Problems> {
        Ok(((), Vec::new()))
    }

    #[test]
    fn a_right_config_is_counted() {
        let args = args("small.yaml");
        let found = check(&args, nothing);
        assert!(as_text(&args, &found).ends_with("small.yaml: right: 1 agent, 1 workflow, 1 credential\n"));
        let json = as_json(&args, &found);
        assert_eq!((&json["valid"], &json["agents"], json["files"].as_array().unwrap().len()), (&json!(true), &json!(1), 1));
    }

    #[test]
    fn what_the_rooms_find_counts_too() {
        let args = args("small.yaml");
        let found = check(&args, |_| Err::<((), _), _>(Problem::new("rule is undefined").at("a.rego", Some(3)).help("define it").into()));
        assert_eq!(as_text(&args, &found), "a.rego:3: rule is undefined; define it\n");
        let want = json!([{"file": "a.rego", "line": 3, "key": null, "message": "rule is undefined", "help": "define it"}]);
        assert_eq!(as_json(&args, &found)["problems"], want);
    }

    #[test]
    fn a_warning_is_printed_and_leaves_the_config_right() {
        let args = args("small.yaml");
        let found = check(&args, |_| Ok(((), vec![Problem::new("GITHUB_TOKEN is not set").at("remit.yaml", Some(3))])));
        let text = as_text(&args, &found);
        assert!(text.starts_with("warning: remit.yaml:3: GITHUB_TOKEN is not set\n") && text.contains(": right: "), "{text}");
        assert_eq!(as_json(&args, &found)["warnings"][0]["line"], 3);
    }

    #[test]
    fn the_exit_code_tells_right_from_wrong_from_unreadable() {
        let wrong = |_: &Config| Err::<((), _), _>(Problem::new("no").into());
        for (config, code, got) in [
            ("small.yaml", 0, run(&args("small.yaml"), nothing)),
            ("small.yaml", 1, run(&args("small.yaml"), wrong)),
            ("credentials.yaml", 1, run(&args("credentials.yaml"), nothing)),
            ("nowhere.yaml", 3, run(&args("nowhere.yaml"), nothing)),
        ] {
            assert_eq!(format!("{got:?}"), format!("{:?}", ExitCode::from(code)), "{config}");
        }
    }
}
