use std::sync::Arc;

use crate::{
    config::Config,
    problem::{Problem, nearest},
};

/// The agent and workflow that a command is about.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) agent: Arc<str>,
    pub(crate) workflow: Arc<str>,
}

impl Who {
    /// As asked, else the ambient ones, else the only ones there are.
    ///
    /// # Errors
    /// When there is no such one, or there are several; names them.
    pub(crate) fn pick(config: &Config, agent: Option<&str>, workflow: Option<&str>) -> Result<Self, Problem> {
        let ambient = config.ambient.as_ref();
        let agents: Vec<&str> = config.registry.agents.iter().map(|a| &*a.id).collect();
        let agent = pick("agent", agent.or_else(|| ambient.map(|a| &*a.agent)), &agents)?;
        let bound = config.registry.agents.iter().filter(|a| a.id == agent).flat_map(|a| &a.workflows);
        let workflows: Vec<&str> = bound.map(|w| &**w).collect();
        let ambient = ambient.filter(|a| a.agent == agent).map(|a| &*a.workflow);
        let workflow = pick("workflow", workflow.or(ambient), &workflows)?;
        Ok(Self { agent, workflow })
    }
}

fn pick(what: &str, wanted: Option<&str>, there: &[&str]) -> Result<Arc<str>, Problem> {
    match (wanted, there) {
        (Some(wanted), _) if there.contains(&wanted) => Ok(Arc::from(wanted)),
        (Some(wanted), _) => {
            let near = nearest(wanted, there.iter().copied()).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            Err(Problem::new(format!("no {what} `{wanted}` is registered for this")).help(format!("{near}there are: {}", there.join(", "))))
        }
        (None, [only]) => Ok(Arc::from(*only)),
        (None, []) => {
            Err(Problem::new(format!("no {what} is registered")).help("add one to the config; `remit init DIR` writes a starter"))
        }
        (None, _) => Err(Problem::new(format!("there are several {what}s")).help(format!("choose with --{what}: {}", there.join(", ")))),
    }
}
