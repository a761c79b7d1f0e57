//! Effects and labels of AWS operations: their names follow one convention, read by table.

use crate::{
    call::{Effect, Label},
    intent::import::derive::Derived,
};

/// Verbs that the vendor gives to what only looks, in every service.
const LOOKS: [&str; 4] = ["describe", "list", "get", "head"];
const READS: [&str; 22] = [
    "search", "query", "scan", "select", "lookup", "check", "validate", "test", "estimate", "preview", "batch", "view", "poll", "verify",
    "evaluate", "simulate", "discover", "detect", "count", "compare", "filter", "is",
];
const DELETES: [&str; 12] =
    ["delete", "terminate", "remove", "deregister", "purge", "destroy", "revoke", "release", "discard", "forget", "schedule", "withdraw"];
const EXECUTES: [&str; 10] = ["invoke", "execute", "run", "converse", "exec", "start", "send", "submit", "rerun", "retry"];
const GOVERNS: [&str; 20] = [
    "policy",
    "policies",
    "permission",
    "permissions",
    "role",
    "roles",
    "acl",
    "grant",
    "grants",
    "access",
    "user",
    "users",
    "group",
    "groups",
    "principal",
    "principals",
    "identity",
    "organization",
    "account",
    "encryption",
];
/// Services that are about who may do what.
const GOVERNING: [&str; 8] = ["iam", "organizations", "sso-admin", "identitystore", "sts", "ram", "account", "rolesanywhere"];
const SECRETS: [&str; 9] = ["token", "tokens", "credential", "credentials", "password", "passwords", "secret", "login", "otp"];

/// What an operation does. `read_only`: the model says so.
pub(super) fn of(service: &str, name: &str, method: &str, read_only: bool) -> Derived {
    let words: Vec<&str> = name.split('-').collect();
    // `batch-get-item` does what `get-item` does.
    let verb = words.iter().find(|w| !matches!(**w, "batch" | "bulk" | "admin")).copied().unwrap_or("");
    let object = words.iter().skip_while(|w| **w != verb).nth(1).copied().unwrap_or("");
    let has = |list: &[&str]| words.iter().any(|w| list.contains(w));
    let (mut effect, mut uncertain) = match verb {
        _ if read_only => (Effect::Read, false),
        v if LOOKS.contains(&v) => (Effect::Read, !matches!(method, "GET" | "HEAD" | "POST")),
        "schedule" if !has(&["deletion"]) => (Effect::Write, false),
        v if DELETES.contains(&v) => (Effect::Delete, !matches!(v, "delete")),
        _ if method == "DELETE" => (Effect::Delete, false),
        v if READS.contains(&v) => (Effect::Read, true),
        v if runs(v, object) => (Effect::Execute, true),
        _ => (Effect::Write, false),
    };
    let governs = has(&GOVERNS) && words.get(1).is_some() || GOVERNING.contains(&service);
    if matches!(effect, Effect::Write | Effect::Delete) && governs {
        (effect, uncertain) = (Effect::Admin, !GOVERNING.contains(&service));
    }
    let labels = labels(service, verb, &words, effect);
    Derived { effect, uncertain: uncertain || !labels.is_empty(), labels }
}

/// `start-execution` runs something; `start-instances` changes a state, `run-instances` makes some.
fn runs(verb: &str, object: &str) -> bool {
    match verb {
        "start" => matches!(object, "execution" | "job" | "query" | "pipeline" | "build" | "automation" | "session" | "workflow" | "sync"),
        "send" => object == "command",
        "run" => object != "instances",
        v => EXECUTES.contains(&v),
    }
}

/// Whether it answers with what lets its holder act, or makes such a thing able to act.
fn mints(service: &str, verb: &str, words: &[&str]) -> bool {
    let has = |list: &[&str]| words.iter().any(|w| list.contains(w));
    let pair = |a: &str, b: &str| words.windows(2).any(|w| w == [a, b]);
    if has(&["policy", "policies", "status", "metadata", "configuration", "branding"]) {
        return false;
    }
    let key = pair("access", "key") || pair("access", "keys") || pair("api", "key") || pair("api", "keys") || pair("key", "pair");
    let secret = has(&SECRETS) || key || pair("login", "profile") || (service == "ssm" && has(&["parameter", "parameters"]));
    // A list or a description holds names of secrets, `get` and the rest the secrets.
    let gives = matches!(
        verb,
        "create" | "get" | "generate" | "issue" | "assume" | "reset" | "rotate" | "request" | "exchange" | "decode" | "import" | "sign"
    );
    // A password that is set, a key that is switched on again.
    let enables = (pair("login", "profile") || pair("access", "key") || pair("user", "password")) && matches!(verb, "update" | "set");
    let certificate = has(&["certificate"])
        && (matches!(verb, "issue" | "export") || (verb == "generate" && pair("client", "certificate")) || has(&["csr", "keys"]));
    // Links and sessions that need no further login.
    let link = has(&["presigned", "embed"]) || pair("signed", "url") || pair("streaming", "url") || pair("session", "url");
    let session = (matches!(verb, "start" | "create") && words.last() == Some(&"session") && OPENS.contains(&service))
        || pair("gui", "session")
        || matches!((service, verb), ("cognito-idp", "initiate" | "respond"))
        || pair("initiate", "auth");
    verb == "assume" || (secret && gives) || enables || certificate || link || session
}

/// Services whose sessions are a shell, a login or a credential.
const OPENS: [&str; 4] = ["ssm", "s3", "codecatalyst", "appstream"];

fn labels(service: &str, verb: &str, words: &[&str], effect: Effect) -> Vec<Label> {
    let has = |list: &[&str]| words.iter().any(|w| list.contains(w));
    let pair = |a: &str, b: &str| words.windows(2).any(|w| w == [a, b]);
    let takes_away = effect == Effect::Delete || matches!(verb, "delete" | "remove" | "detach" | "deregister" | "revoke" | "disassociate");
    let mut labels = Vec::new();
    if takes_away {
        return labels;
    }
    let ends = matches!(verb, "stop" | "cancel" | "disable");
    if !ends && mints(service, verb, words) {
        labels.push(Label::MintsCredential);
    }
    if effect == Effect::Read {
        return labels;
    }
    let shares = (has(&["policy", "policies", "acl", "permission", "permissions", "grant"])
        && has(&["put", "create", "add", "set", "attach", "associate", "update", "modify"])
        && !pair("web", "acl"))
        || (verb == "add" && has(&["user", "role"]))
        || pair("function", "url")
        || has(&["share", "invite", "invitation", "invitations", "member", "members", "ingress"])
        || (verb == "modify" && has(&["attribute"]) && has(&["snapshot", "image"]))
        || pair("public", "access")
        || (service == "ram" && verb == "associate");
    if shares {
        labels.push(Label::SharesAccess);
    }
    let sends = has(&[
        "webhook",
        "forward",
        "forwarding",
        "replication",
        "notification",
        "notifications",
        "destination",
        "subscription",
        "publish",
        "export",
        "logging",
        "mirror",
    ]) || matches!(verb, "transfer" | "replicate")
        || matches!((service, verb), ("cloudtrail", "create" | "update") | ("firehose", "create" | "update") | ("datasync", "create"))
        || matches!((service, verb), ("sns", "subscribe" | "publish") | ("ses" | "sesv2" | "pinpoint", "send"))
        || pair("flow", "logs")
        || pair("put", "targets");
    if sends && !ends {
        labels.push(Label::SendsElsewhere);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_an_operation_does() {
        let of = |service, name| of(service, name, "POST", false).effect;
        assert_eq!(of("ec2", "describe-instances"), Effect::Read);
        assert_eq!(of("dynamodb", "batch-get-item"), Effect::Read);
        assert_eq!(of("dynamodb", "batch-write-item"), Effect::Write);
        assert_eq!(of("ec2", "terminate-instances"), Effect::Delete);
        assert_eq!(of("ec2", "run-instances"), Effect::Write);
        assert_eq!(of("lambda", "invoke"), Effect::Execute);
        assert_eq!(of("ssm", "send-command"), Effect::Execute);
        assert_eq!(of("kms", "schedule-key-deletion"), Effect::Delete);
        assert_eq!(of("iam", "create-user"), Effect::Admin);
        assert_eq!(of("s3", "put-bucket-policy"), Effect::Admin);
    }

    #[test]
    fn what_gives_credentials_or_access_away_is_labelled() {
        let of = |service, name| of(service, name, "POST", false).labels;
        for (service, name) in [
            ("sts", "assume-role"),
            ("sts", "get-session-token"),
            ("iam", "create-access-key"),
            ("iam", "create-login-profile"),
            ("ecr", "get-authorization-token"),
            ("secretsmanager", "get-secret-value"),
            ("ec2", "get-password-data"),
            ("ssm", "get-parameters-by-path"),
            ("ssm", "start-session"),
            ("iam", "update-login-profile"),
            ("iam", "update-access-key"),
            ("iot", "create-keys-and-certificate"),
            ("acm", "export-certificate"),
            ("acm-pca", "issue-certificate"),
            ("apigateway", "get-api-keys"),
            ("lightsail", "get-bucket-access-keys"),
            ("sagemaker", "create-presigned-notebook-instance-url"),
            ("quicksight", "generate-embed-url-for-registered-user"),
            ("cognito-idp", "admin-set-user-password"),
            ("cognito-idp", "admin-initiate-auth"),
        ] {
            assert!(of(service, name).contains(&Label::MintsCredential), "{name}");
        }
        assert!(of("s3", "put-bucket-policy").contains(&Label::SharesAccess));
        assert!(of("ec2", "modify-snapshot-attribute").contains(&Label::SharesAccess));
        assert!(of("iam", "add-user-to-group").contains(&Label::SharesAccess));
        assert!(of("eks", "associate-access-policy").contains(&Label::SharesAccess));
        assert!(of("lambda", "create-function-url-config").contains(&Label::SharesAccess));
        for (service, name) in [
            ("s3", "put-bucket-replication"),
            ("s3", "put-bucket-logging"),
            ("rds", "start-export-task"),
            ("dynamodb", "export-table-to-point-in-time"),
            ("ec2", "create-traffic-mirror-session"),
            ("firehose", "create-delivery-stream"),
            ("route53domains", "transfer-domain-to-another-aws-account"),
        ] {
            assert!(of(service, name).contains(&Label::SendsElsewhere), "{name}");
        }
        assert_eq!(of("iam", "update-account-password-policy").iter().find(|l| **l == Label::MintsCredential), None);
        assert_eq!(of("iam", "delete-access-key"), []);
        assert_eq!(of("s3", "get-object"), []);
    }
}
