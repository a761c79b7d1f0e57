//! What operations do beyond their effect, from their names.

use crate::call::{Effect, Label};

use super::words::Words;

/// Verbs that matter here and nowhere else.
pub(super) const VERBS: [&str; 31] = [
    "generate",
    "issue",
    "mint",
    "regenerate",
    "refresh",
    "exchange",
    "provision",
    "sign",
    "presign",
    "assume",
    "login",
    "authenticate",
    "authorize",
    "impersonate",
    "reveal",
    "access",
    "assign",
    "forward",
    "transfer",
    "export",
    "watch",
    "accept",
    "decline",
    "reject",
    "deny",
    "leave",
    "replicate",
    "mirror",
    "unshare",
    "uninvite",
    "resend",
];

/// Whether a method takes away: that neither mints, shares nor sends.
fn takes_away(method: &str, effect: Effect, words: &Words<'_>) -> bool {
    method == "delete"
        || effect == Effect::Delete
        || words.deletes()
        || words.verb_is(&["decline", "reject", "deny", "leave", "unshare", "uninvite"])
}

/// The labels of an operation.
pub(super) fn labels(method: &str, effect: Effect, words: &Words<'_>) -> Vec<Label> {
    if takes_away(method, effect, words) {
        return Vec::new();
    }
    let mut labels = Vec::new();
    if mints(method, effect, words) {
        labels.push(Label::MintsCredential);
    }
    if effect != Effect::Read && shares(words) {
        labels.push(Label::SharesAccess);
    }
    if (effect != Effect::Read || words.verb_is(&["watch"])) && sends(method, words) {
        labels.push(Label::SendsElsewhere);
    }
    labels
}

const MAKES: [&str; 18] = [
    "create",
    "add",
    "generate",
    "issue",
    "mint",
    "reset",
    "rotate",
    "regenerate",
    "refresh",
    "insert",
    "exchange",
    "provision",
    "import",
    "upload",
    "put",
    "update",
    "set",
    "register",
];
/// Makes a new one, rather than storing one that the caller has.
const RENEWS: [&str; 7] = ["generate", "reset", "rotate", "regenerate", "refresh", "issue", "mint"];
const CREDENTIALS: [&str; 11] =
    ["token", "credential", "password", "jitconfig", "keypair", "apikey", "passcode", "pat", "jwt", "kubeconfig", "passkey"];
/// Keys of other kinds: of a table, a cache, a message, a disk.
const OTHER_KEYS: [&str; 16] = [
    "partition",
    "primary",
    "sort",
    "cache",
    "idempotency",
    "translation",
    "encryption",
    "foreign",
    "tag",
    "composite",
    "shard",
    "row",
    "data",
    "index",
    "map",
    "i18n",
];

/// Whether it answers with a credential, or makes one able to act.
fn mints(method: &str, effect: Effect, words: &Words<'_>) -> bool {
    let key = words.head_is(&["key"]) && !words.before_head.last().is_some_and(|w| OTHER_KEYS.contains(w));
    let pair = words.ends_in("key", &["pair"]) || words.ends_in("login", &["profile"]);
    let credential = words.head_is(&CREDENTIALS);
    let secret = words.head_is(&["secret"]);
    let makes = words.verb_is(&MAKES) && effect != Effect::Read;
    if makes && (credential || pair || (key && !words.verb_is(&["set", "put"]))) {
        return true;
    }
    if secret && (words.verb_is(&RENEWS) || words.before_head.contains(&"client")) && effect != Effect::Read {
        return true;
    }
    // Those that only look give one away all the same.
    let gets = words.verb_is(&["get", "fetch", "retrieve", "reveal", "access", "download", "request", "obtain"]);
    let value = words.ends_in("secret", &["value", "payload"]) || (words.verb == "reveal" && secret);
    if words.verb == "access" && words.has(&["secret", "secrets"]) {
        return true;
    }
    if gets && (words.head_is(&["token", "credential", "password", "kubeconfig"]) || value || pair) {
        return !words.before_head.iter().any(|w| matches!(*w, "next" | "page" | "sync" | "cancellation"));
    }
    // `listKeys` by POST answers with the keys themselves.
    if method == "post" && words.verb == "list" && (key || credential || secret) {
        return true;
    }
    signs(words)
}

/// Logins, assumed roles, signatures, links that need no further login.
fn signs(words: &Words<'_>) -> bool {
    let signed = words.has(&["presigned", "presign", "sas"]) || (words.has(&["signed"]) && words.has(&["url", "urls", "uri"]));
    let assumes = words.verb == "assume" && words.has(&["role"]);
    let logs_in = words.verb_is(&["login", "authenticate", "impersonate"]) || (words.has(&["sign"]) && words.has(&["in", "jwt", "blob"]));
    let auth = words.head == "auth" && words.has(&["initiate"]);
    signed || assumes || logs_in || auth
}

const PEOPLE: [&str; 11] =
    ["collaborator", "member", "membership", "invitation", "invite", "invitee", "guest", "share", "acl", "grantee", "delegate"];

/// Whether it lets someone else in.
fn shares(words: &Words<'_>) -> bool {
    if words.verb_is(&["accept", "dismiss", "cancel", "publicize", "conceal", "validate", "check"]) {
        return false;
    }
    let people = words.all.iter().any(|w| is_one_of(w, &PEOPLE)) || is_one_of(words.head, &PEOPLE);
    let gives = words.verb_is(&["add", "create", "grant", "give", "insert", "put", "update", "patch", "modify", "authorize"]);
    let permission = gives && words.head_is(&["permission", "grant", "ingress"]);
    // `setIamPolicy`, `PutBucketPolicy`, `AttachRolePolicy`: who may do what with a thing.
    let whose = ["iam", "bucket", "resource", "key", "access", "repository", "topic", "queue", "assume", "user", "role", "group", "trust"];
    let policy = words.verb_is(&["set", "put", "attach", "add", "update", "create"])
        && words.head_is(&["policy"])
        && (words.verb == "attach" || words.all.iter().any(|w| whose.contains(w)) && !words.has(&["password", "lifecycle", "retention"]));
    let role = words.verb_is(&["assign", "attach", "grant", "give"]) && words.has(&["role", "roles"]);
    let group = words.verb == "add" && words.has(&["user", "users"]) && words.has(&["group", "team", "groups", "teams"]);
    let public = words.has(&["public"]) && words.has(&["make", "url", "link", "access", "share", "shared"]) && !words.has(&["block"]);
    people || permission || policy || role || group || words.verb == "share" || public
}

/// Whether it makes data go to a place that the call names, now or later.
fn sends(method: &str, words: &Words<'_>) -> bool {
    let hook = words.all.iter().any(|w| is_one_of(w, &["webhook", "hook", "sink", "callback", "forwarder"]))
        || is_one_of(words.head, &["webhook", "hook", "sink"]);
    let forwards =
        words.has(&["forwarding", "autoforwarding"]) || words.verb_is(&["forward", "transfer", "publish", "export", "replicate", "mirror"]);
    let mail = words.verb == "send" && words.all.iter().any(|w| is_one_of(w, &["email", "mail", "sms", "fax"]));
    let pushes =
        words.ends_in("push", &["config"]) || words.ends_in("event", &["destination"]) || words.ends_in("event", &["subscription"]);
    // Google's `watch` names an address that hears of every change; by GET it is a long look.
    let watch = words.verb == "watch" && method == "post";
    let subscribes = words.verb == "subscribe" && method == "post";
    (hook && !words.verb_is(&["ping", "test", "redeliver"])) || forwards || mail || pushes || watch || subscribes
}

fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.contains(&word) || word.strip_suffix('s').is_some_and(|one| list.contains(&one))
}

#[cfg(test)]
mod tests {
    use super::super::effect;
    use crate::call::Label::{MintsCredential as Mints, SendsElsewhere as Sends, SharesAccess as Shares};

    #[test]
    fn labels_are_found_in_the_names_that_vendors_give() {
        for (method, group, name, want) in [
            // GitHub
            ("post", "repos", "create-deploy-key", vec![Mints]),
            ("delete", "repos", "delete-deploy-key", vec![]),
            ("post", "apps", "create-installation-access-token", vec![Mints]),
            ("post", "actions", "create-registration-token-for-org", vec![Mints]),
            ("post", "actions", "generate-runner-jitconfig-for-org", vec![Mints]),
            ("put", "repos", "add-collaborator", vec![Shares]),
            ("post", "orgs", "create-invitation", vec![Shares]),
            ("put", "teams", "add-or-update-membership-for-user-in-org", vec![Shares]),
            ("post", "repos", "create-webhook", vec![Sends]),
            ("post", "repos", "transfer", vec![Sends]),
            ("get", "repos", "list-webhooks", vec![]),
            ("get", "orgs", "list-members", vec![]),
            ("post", "issues", "create-comment", vec![]),
            // Google
            ("post", "projects", "service-accounts-keys-create", vec![Mints]),
            ("post", "projects", "service-accounts-generate-access-token", vec![Mints]),
            ("post", "projects", "service-accounts-sign-jwt", vec![Mints]),
            ("post", "permissions", "create", vec![Shares]),
            ("post", "projects", "set-iam-policy", vec![Shares]),
            ("post", "users", "settings-forwarding-addresses-create", vec![Sends]),
            ("post", "users", "settings-delegates-create", vec![Shares]),
            ("post", "files", "watch", vec![Sends]),
            ("post", "projects", "sinks-create", vec![Sends]),
            ("post", "users", "labels-create", vec![]),
            ("get", "projects", "secrets-versions-access", vec![Mints]),
            // AWS
            ("post", "iam", "create-access-key", vec![Mints]),
            ("post", "iam", "create-login-profile", vec![Mints]),
            ("post", "ec2", "create-key-pair", vec![Mints]),
            ("post", "sts", "assume-role-with-saml", vec![Mints]),
            ("post", "sts", "get-session-token", vec![Mints]),
            ("post", "ecr", "get-authorization-token", vec![Mints]),
            ("post", "secretsmanager", "get-secret-value", vec![Mints]),
            ("post", "iam", "update-account-password-policy", vec![]),
            ("put", "s3", "put-bucket-policy", vec![Shares]),
            ("post", "lambda", "add-permission", vec![Shares]),
            ("post", "iam", "attach-user-policy", vec![Shares]),
            ("post", "iam", "add-user-to-group", vec![Shares]),
            ("post", "sns", "subscribe", vec![Sends]),
            ("post", "ses", "send-email", vec![Sends]),
            ("post", "sqs", "send-message", vec![]),
            ("post", "dynamodb", "put-item", vec![]),
            ("post", "glue", "create-partition-key", vec![]),
            // others
            ("post", "api-keys", "create", vec![Mints]),
            ("post", "storage-accounts", "list-keys", vec![Mints]),
            ("post", "oauth", "exchange-token", vec![Mints]),
            ("post", "invites", "create", vec![Shares]),
            ("post", "packages", "publish", vec![Sends]),
        ] {
            assert_eq!(effect(method, group, name).labels, want, "{method} {group} {name}");
        }
    }
}
