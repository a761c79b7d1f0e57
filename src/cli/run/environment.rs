use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    call::Mode,
    config::{AgentSpec, Config, CredentialKind, OnDrift, Place, Status, WorkflowSpec},
    credential::{self, Placeholder},
    enforce::{House, Rules},
    problem::Problem,
};

/// Where the system keeps the roots that clients trust without being told.
const SYSTEM_BUNDLES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// Variables whose file replaces the roots of a client: they get the system's and ours.
const BUNDLE_VARIABLES: [&str; 15] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "npm_config_cafile",
    "DENO_CERT",
    "HTTPLIB2_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "PERL_LWP_SSL_CA_FILE",
    "BUNDLE_SSL_CA_CERT",
    "HEX_CACERTS_PATH",
];

const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// The command's variables, and the files that they name (removed when this is dropped).
pub(super) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    dir: PathBuf,
}

/// What the command holds in place of credentials, and what it keeps of its own.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    set: Vec<Placeholder>,
    /// Variables of providers whose own login passes (credential kind `own`).
    own: Vec<&'static str>,
}

/// Gives each configured provider's usual variables a random placeholder, which the broker then
/// knows for no secret.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn with_placeholders(mut rules: Rules) -> Result<(Rules, Placeholders), Problem> {
    let mut found = Placeholders::default();
    if rules.config.mode == Mode::Observe {
        return Ok((rules, found));
    }
    let mut seen = BTreeSet::new();
    for credential in &rules.config.credentials {
        for provider in credential.hosts.iter().filter_map(|host| rules.catalog.provider_for_host(host)) {
            if matches!(credential.kind, CredentialKind::Own) {
                found.own.extend(credential::placeholder_variables(&provider.id));
            } else if seen.insert(provider.id.clone()) {
                found.set.extend(credential::placeholders(&provider.id)?);
            }
        }
    }
    let values = found.set.iter().map(|p| &*p.value);
    if let Some(broker) = Arc::get_mut(&mut rules.broker) {
        broker.know_placeholders(values);
    }
    Ok((rules, found))
}

impl Environment {
    /// Takes out what is a secret, puts in what leads to Remit.
    pub(super) fn new(house: &House, placeholders: &Placeholders, proxy: &str, keep: &[String]) -> io::Result<Self> {
        let rules = house.rules();
        // What is only watched keeps its own credentials: nothing else would work.
        let observed = rules.config.mode == Mode::Observe;
        let kept = |name: &OsStr| observed || keep.iter().any(|k| name == k.as_str()) || placeholders.own.iter().any(|o| name == *o);
        let secret = |name: &OsStr, value: &OsStr| rules.broker.keeps_from_child(&name.to_string_lossy(), value.as_encoded_bytes());
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().filter(|(n, v)| kept(n) || !secret(n, v)).collect();
        for name in ["NO_PROXY", "no_proxy", "SSL_CERT_DIR", "NODE_TLS_REJECT_UNAUTHORIZED", "REMIT_CONTROL"] {
            variables.remove(OsStr::new(name));
        }
        let dir = private_dir()?;
        let mut set = |name: &str, value: &OsStr| variables.insert(name.into(), value.into());
        for name in PROXY_VARIABLES {
            set(name, OsStr::new(proxy));
        }
        let ours = house.terminator().authority().pem();
        let (ca, bundle) = (write(&dir, "ca.pem", ours)?, write(&dir, "bundle.pem", &format!("{}\n{ours}", system_roots()))?);
        for name in BUNDLE_VARIABLES {
            set(name, bundle.as_os_str());
        }
        set("NODE_EXTRA_CA_CERTS", ca.as_os_str());
        set("NODE_USE_ENV_PROXY", OsStr::new("1"));
        // wget reads no variable for its roots, but one for its settings.
        let wget = write(&dir, "wgetrc", &format!("{}ca_certificate = {}\n", user_wgetrc(), bundle.display()))?;
        set("WGETRC", wget.as_os_str());
        for Placeholder { variable, value } in placeholders.set.iter().filter(|p| !keep.iter().any(|k| k == p.variable)) {
            set(variable, OsStr::new(&**value));
        }
        Ok(Self { variables, dir })
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // Holds only public certificates; what stays behind is litter, not a leak.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The config of `run --observe` without a file: one agent that nothing is granted to.
pub(super) fn observed() -> Config {
    let mut config = Config::observe();
    let place = Place::default();
    config.registry.workflows.push(WorkflowSpec {
        id: Arc::from("observed"),
        purpose: Arc::from("Watch what an agent calls"),
        max_lifetime: Duration::from_secs(30 * 24 * 3600),
        grants: Vec::new(),
        credential: None,
        mode: None,
        quiet: false,
        limits: vec![],
        place: place.clone(),
    });
    config.registry.agents.push(AgentSpec {
        id: Arc::from("observed"),
        owner: Arc::from(std::env::var("USER").unwrap_or_else(|_| "local".into())),
        spiffe_id: None,
        identities: Vec::new(),
        status: Status::Active,
        expires: None,
        workflows: vec![Arc::from("observed")],
        delegates_to: Vec::new(),
        attested: None,
        on_drift: OnDrift::Record,
        review: Default::default(),
        mode: None,
        limits: vec![],
        place,
    });
    config
}

/// Where a run without a config keeps its audit (XDG Base Directory, state).
pub(super) fn state_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from).join(".local/state");
    std::env::var_os("XDG_STATE_HOME").filter(|d| !d.is_empty()).map_or_else(home, PathBuf::from).join("remit")
}

fn private_dir() -> io::Result<PathBuf> {
    let unique = crate::call::TaskId::new(crate::clock::unix_ms());
    let dir = std::env::temp_dir().join(format!("remit-run-{unique}"));
    fs::DirBuilder::new().mode(0o755).create(&dir)?;
    Ok(dir)
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path)
}

fn system_roots() -> String {
    SYSTEM_BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

fn user_wgetrc() -> String {
    let named = std::env::var_os("WGETRC").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".wgetrc"));
    let text = named.or_else(home).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}
