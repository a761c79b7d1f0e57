//! What a child of `remit run` finds in its environment: no credential, and placeholders where its
//! clients look for one.

use ring::rand::{SecureRandom, SystemRandom};

use super::foreign::looks_secret;
use crate::problem::Problem;

/// A value that stands where a client looks for its credential. It is no secret: Remit drops it
/// and attaches the real one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The variable to set.
    pub variable: &'static str,
    pub value: String,
}

/// How a client's credential looks, so that the client accepts a placeholder of the same form.
#[derive(Clone, Copy)]
enum Form {
    /// A prefix and so many letters and digits.
    Alnum(&'static str, usize),
    /// `xoxb-` and three groups.
    Slack,
    /// A prefix and so many capitals and digits.
    Upper(&'static str, usize),
}

/// Provider → the variables its clients read, and the form of what they expect there.
const PROVIDERS: &[(&str, &[&str], Form)] = &[
    ("github", &["GITHUB_TOKEN", "GH_TOKEN"], Form::Alnum("ghp_", 36)),
    ("gitlab", &["GITLAB_TOKEN"], Form::Alnum("glpat-", 20)),
    ("openai", &["OPENAI_API_KEY"], Form::Alnum("sk-proj-", 48)),
    ("anthropic", &["ANTHROPIC_API_KEY"], Form::Alnum("sk-ant-api03-", 95)),
    ("slack", &["SLACK_BOT_TOKEN", "SLACK_TOKEN"], Form::Slack),
    ("google", &["GOOGLE_API_KEY"], Form::Alnum("AIza", 35)),
    ("gemini", &["GEMINI_API_KEY", "GOOGLE_API_KEY"], Form::Alnum("AIza", 35)),
    ("aws", &["AWS_ACCESS_KEY_ID"], Form::Upper("AKIA", 16)),
    ("aws", &["AWS_SECRET_ACCESS_KEY"], Form::Alnum("", 40)),
    ("npm", &["NPM_TOKEN", "NODE_AUTH_TOKEN"], Form::Alnum("npm_", 36)),
    ("pypi", &["TWINE_PASSWORD"], Form::Alnum("pypi-AgEIcHlwaS5vcmc", 80)),
    ("huggingface", &["HF_TOKEN"], Form::Alnum("hf_", 34)),
    ("stripe", &["STRIPE_API_KEY", "STRIPE_SECRET_KEY"], Form::Alnum("sk_test_", 24)),
    ("linear", &["LINEAR_API_KEY"], Form::Alnum("lin_api_", 40)),
    ("notion", &["NOTION_TOKEN", "NOTION_API_KEY"], Form::Alnum("ntn_", 46)),
    ("jira", &["JIRA_API_TOKEN"], Form::Alnum("ATATT3xFf", 60)),
    ("figma", &["FIGMA_TOKEN"], Form::Alnum("figd_", 40)),
    ("sentry", &["SENTRY_AUTH_TOKEN"], Form::Alnum("sntrys_", 60)),
    ("sendgrid", &["SENDGRID_API_KEY"], Form::Alnum("SG.", 66)),
    ("groq", &["GROQ_API_KEY"], Form::Alnum("gsk_", 52)),
    ("mistral", &["MISTRAL_API_KEY"], Form::Alnum("", 32)),
    ("openrouter", &["OPENROUTER_API_KEY"], Form::Alnum("sk-or-v1-", 64)),
];

/// The variables in which clients of a provider look for its credential.
pub fn placeholder_variables(provider: &str) -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().filter(move |(id, ..)| *id == provider).flat_map(|(_, variables, _)| variables.iter().copied())
}

/// Random placeholders for a provider's usual variables; variables that mean the same get the same.
/// None for a provider whose clients read no usual variable.
///
/// # Errors
/// When the system has no randomness.
pub fn placeholders(provider: &str) -> Result<Vec<Placeholder>, Problem> {
    let mut all = Vec::new();
    for (_, variables, form) in PROVIDERS.iter().filter(|(id, ..)| *id == provider) {
        let value = render(*form)?;
        all.extend(variables.iter().map(|variable| Placeholder { variable, value: value.clone() }));
    }
    Ok(all)
}

fn render(form: Form) -> Result<String, Problem> {
    const ALNUM: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const DIGITS: &[u8] = b"0123456789";
    match form {
        Form::Alnum(prefix, length) => Ok(format!("{prefix}{}", random(ALNUM, length)?)),
        Form::Upper(prefix, length) => Ok(format!("{prefix}{}", random(UPPER, length)?)),
        Form::Slack => Ok(format!("xoxb-{}-{}-{}", random(DIGITS, 12)?, random(DIGITS, 13)?, random(ALNUM, 24)?)),
    }
}

/// `length` characters of `alphabet` (at most 64 of them), each as likely as the others.
fn random(alphabet: &[u8], length: usize) -> Result<String, Problem> {
    let source = SystemRandom::new();
    let mut out = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while out.len() < length {
        source.fill(&mut bytes).map_err(|_| Problem::new("the system gives no random numbers, so no placeholder can be made"))?;
        let picked = bytes.iter().filter_map(|b| alphabet.get(usize::from(b & 63)));
        out.extend(picked.take(length - out.len()).map(|b| char::from(*b)));
    }
    Ok(out)
}

/// Whether a variable of this name is kept from the child: it is known to hold a credential, or
/// ends as those do. `remit run --env NAME` keeps one.
#[must_use]
pub fn is_credential_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    if HARMLESS.contains(&&*name) {
        return false;
    }
    NAMES.contains(&&*name) || ENDINGS.iter().any(|ending| name.ends_with(ending)) || STARTS.iter().any(|start| name.starts_with(start))
}

/// Whether a variable's value is a secret of a well-known format, whatever it is called.
#[must_use]
pub fn is_secret_value(value: &[u8]) -> bool {
    looks_secret(value)
}

/// Endings of names that hold a credential.
const ENDINGS: &[&str] = &[
    "_TOKEN",
    "_APITOKEN",
    "_API_KEY",
    "_APIKEY",
    "_SECRET",
    "_SECRET_KEY",
    "_SECRET_ACCESS_KEY",
    "_ACCESS_KEY",
    "_ACCESS_KEY_ID",
    "_ACCOUNT_KEY",
    "_PRIVATE_KEY",
    "_SIGNING_KEY",
    "_ENCRYPTION_KEY",
    "_MASTER_KEY",
    "_PASSWORD",
    "_PASSWD",
    "_PASSPHRASE",
    "_PASS",
    "_PAT",
    "_CREDENTIALS",
    "_CREDENTIAL",
    "_CONNECTION_STRING",
    "_SAS_TOKEN",
    "_WEBHOOK_URL",
    "_COOKIE",
    "_JWT",
];

/// Beginnings of names whose whole family holds credentials.
const STARTS: &[&str] =
    &["AWS_CONTAINER_", "ACTIONS_ID_TOKEN_", "ACTIONS_RUNTIME_", "TF_TOKEN_", "SNYK_", "OP_SERVICE_ACCOUNT_", "VAULT_SECRET_"];

/// Names that hold a credential or the way to one.
const NAMES: &[&str] = &[
    // clouds
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_BEARER_TOKEN_BEDROCK",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GCLOUD_KEYFILE_JSON",
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_KEY",
    "ARM_CLIENT_SECRET",
    "ARM_CLIENT_CERTIFICATE",
    "IDENTITY_HEADER",
    "MSI_SECRET",
    "OCI_CLI_KEY_FILE",
    "KUBECONFIG",
    "CLOUDFLARE_API_KEY",
    "CF_API_KEY",
    "HCLOUD_TOKEN",
    "DIGITALOCEAN_TOKEN",
    "FLY_API_TOKEN",
    "HEROKU_API_KEY",
    // code hosts and registries
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "GH_ENTERPRISE_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITHUB_PAT",
    "GITLAB_TOKEN",
    "CI_JOB_JWT",
    "CI_REGISTRY_PASSWORD",
    "BITBUCKET_APP_PASSWORD",
    "SYSTEM_ACCESSTOKEN",
    "NPM_TOKEN",
    "NPM_CONFIG__AUTH",
    "NPM_CONFIG__AUTHTOKEN",
    "NODE_AUTH_TOKEN",
    "YARN_NPM_AUTH_IDENT",
    "TWINE_PASSWORD",
    "CARGO_REGISTRY_TOKEN",
    "DOCKER_AUTH_CONFIG",
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
    "NETRC",
    "CURLOPT_USERPWD",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "GPG_AGENT_INFO",
    // models
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "GEMINI_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    // services
    "SLACK_BOT_TOKEN",
    "SLACK_WEBHOOK",
    "STRIPE_KEY",
    "SENTRY_DSN",
    "DD_API_KEY",
    "DD_APP_KEY",
    "ALGOLIA_ADMIN_KEY",
    "TELEGRAM_BOT",
    "TWILIO_AUTH_TOKEN",
    "VAULT_TOKEN",
    "BAO_TOKEN",
    "CONSUL_HTTP_AUTH",
    "DOPPLER_TOKEN",
    "OP_SESSION",
    "BW_SESSION",
    "SOPS_AGE_KEY",
    "SOPS_AGE_KEY_FILE",
    "ANSIBLE_VAULT_PASSWORD_FILE",
    "RESTIC_PASSWORD_FILE",
    "RAILS_MASTER_KEY",
    "SECRET_KEY_BASE",
    "SECRET_KEY",
    "JWT_SECRET",
    // databases
    "DATABASE_URL",
    "POSTGRES_URL",
    "MONGODB_URI",
    "MONGO_URL",
    "REDIS_URL",
    "AMQP_URL",
    "CLOUDAMQP_URL",
    "PGPASSWORD",
    "PGPASSFILE",
    "MYSQL_PWD",
    "REDISCLI_AUTH",
    // plain
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PASSWORD",
    "SECRET",
    // Remit's own: the handle of the task is in the proxy variables, which `run` sets
    "REMIT_CONTROL",
    "REMIT_TASK",
];

/// Names that end like a credential's and hold none.
const HARMLESS: &[&str] = &["XDG_SESSION_COOKIE"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_placeholder_is_random_and_looks_like_what_its_client_accepts() {
        let mut seen = HashSet::new();
        for (provider, ..) in PROVIDERS {
            for placeholder in placeholders(provider).unwrap() {
                assert!(placeholder_variables(provider).any(|v| v == placeholder.variable));
                assert!(placeholder.value.len() >= 20 && placeholder.value.is_ascii(), "{placeholder:?}");
                seen.insert(placeholder.value);
            }
        }
        let before = seen.len();
        for (provider, ..) in PROVIDERS {
            seen.extend(placeholders(provider).unwrap().into_iter().map(|p| p.value));
        }
        assert!(seen.len() > before, "another run has others");
        let github = placeholders("github").unwrap();
        assert_eq!(github[0].value, github[1].value, "GITHUB_TOKEN and GH_TOKEN are one login");
        assert!(github[0].value.starts_with("ghp_") && placeholders("openai").unwrap()[0].value.starts_with("sk-"));
        assert!(placeholders("nobody").unwrap().is_empty());
    }

    #[test]
    fn names_of_credentials_are_known_and_others_stay() {
        for name in [
            "GITHUB_TOKEN",
            "gh_token",
            "AWS_SECRET_ACCESS_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "ACME_API_KEY",
            "MY_DB_PASSWORD",
            "npm_config__authToken",
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "SSH_AUTH_SOCK",
        ] {
            assert!(is_credential_name(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "LANG",
            "TOKENIZERS_PARALLELISM",
            "KEYBOARD",
            "AWS_REGION",
            "PASSENGER",
            "COMPASS",
            "GITHUB_REPOSITORY",
            "SSL_CERT_FILE",
        ] {
            assert!(!is_credential_name(name), "{name}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_format_too() {
        assert!(is_secret_value(b"ghp_R4nd0mLook1ngT0kenOf36Charactersab12"));
        assert!(!is_secret_value(b"/usr/local/bin:/usr/bin:/bin:/some/long/path"));
    }
}
