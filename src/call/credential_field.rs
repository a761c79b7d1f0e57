use http::HeaderName;

/// Whether a request field carries a credential. To a host that Remit governs these are dropped,
/// never forwarded (law 3), unless the permit passes the agent's own login.
#[must_use]
pub fn is_credential_field(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_common(name) || is_a_vendors(name) || ends_as_one(name)
}

/// What carries a login, a session, who signed the request, or a certificate shown to some proxy (RFC 9421, RFC 9440).
fn is_common(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "proxy-authorization"
            | "cookie"
            | "cookie2"
            | "x-authorization"
            | "x-forwarded-authorization"
            | "x-original-authorization"
            | "authentication"
            | "dpop"
            | "txn-token"
            | "workload-identity-token"
            | "workload-proof-token"
            | "x-api-key"
            | "api-key"
            | "apikey"
            | "x-apikey"
            | "x-api-token"
            | "x-api-secret"
            | "x-access-token"
            | "x-auth-token"
            | "x-auth-key"
            | "x-auth-email"
            | "x-token"
            | "x-session-token"
            | "x-csrf-token"
            | "x-xsrf-token"
            | "private-token"
            | "x-client-secret"
            | "x-remit-task"
            | "remit-task"
            | "signature"
            | "signature-input"
            | "signature-agent"
            | "client-cert"
            | "client-cert-chain"
            | "x-client-cert"
            | "x-ssl-client-cert"
            | "x-forwarded-client-cert"
            | "x-otp"
            | "user-token"
            | "x-user-token"
            | "x-auth"
            | "x-cookie"
            | "token"
            | "password"
            | "secret"
    )
}

/// What one vendor takes.
fn is_a_vendors(name: &str) -> bool {
    matches!(
        name,
        "job-token"
            | "deploy-token"
            | "x-gitlab-token"
            | "x-goog-api-key"
            | "x-goog-iam-authorization-token"
            | "x-goog-iap-jwt-assertion"
            | "x-amz-security-token"
            | "x-amz-access-token"
            | "x-ms-authorization-auxiliary"
            | "x-functions-key"
            | "ocp-apim-subscription-key"
            | "x-subscription-token"
            | "x-vault-token"
            | "x-consul-token"
            | "x-nomad-token"
            | "x-figma-token"
            | "x-shopify-access-token"
            | "x-shopify-storefront-access-token"
            | "x-postmark-server-token"
            | "x-postmark-account-token"
            | "x-sentry-auth"
            | "x-sentry-token"
            | "x-airtable-api-key"
            | "x-trackertoken"
            | "x-redmine-api-key"
            | "x-jfrog-art-api"
            | "x-dd-api-key"
            | "dd-api-key"
            | "dd-application-key"
            | "x-honeycomb-team"
            | "x-algolia-api-key"
            | "x-rapidapi-key"
            | "xi-api-key"
            | "x-elastic-api-key"
            | "x-octopus-apikey"
            | "x-nuget-apikey"
            | "x-goog-authenticated-user-jwt"
            | "x-amzn-oidc-data"
            | "x-amzn-oidc-accesstoken"
            | "x-amzn-oidc-identity"
            | "x-aws-ec2-metadata-token"
            | "x-ms-client-principal"
            | "cf-access-client-id"
            | "x-github-otp"
            | "fastly-key"
            | "circle-token"
            | "plaid-secret"
            | "x-parse-master-key"
            | "x-appwrite-key"
            | "x-finnhub-token"
            | "x-buildkite-token"
            | "helicone-auth"
    )
}

/// Names that vendors coin for their own: `x-acme-api-key`.
fn ends_as_one(name: &str) -> bool {
    const ENDS: [&str; 16] = [
        "-api-key",
        "-apikey",
        "-api-token",
        "-api-secret",
        "-access-token",
        "-auth-token",
        "-auth-key",
        "-id-token",
        "-refresh-token",
        "-session-token",
        "-security-token",
        "-secret",
        "-secret-key",
        "-password",
        "-authorization",
        "-jwt-assertion",
    ];
    // Most fields end in none of these letters, or are short.
    name.len() > 7 && matches!(name.as_bytes().last(), Some(b'y' | b'n' | b't' | b'd')) && ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_fields_are_known_and_others_are_not() {
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "dpop",
            "txn-token",
            "private-token",
            "signature",
            "signature-input",
            "client-cert",
            "x-amz-security-token",
            "x-acme-api-key",
            "x-serverless-authorization",
            "cf-access-client-secret",
            "cf-access-jwt-assertion",
        ] {
            assert!(is_credential_field(&name.parse().unwrap()), "{name}");
        }
        for name in [
            "accept",
            "content-type",
            "x-github-api-version",
            "anthropic-version",
            "idempotency-key",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-ms-continuationtoken",
            "last-event-id",
            "x-request-id",
            "if-none-match",
            "x-goog-user-project",
            "content-disposition",
        ] {
            assert!(!is_credential_field(&name.parse().unwrap()), "{name}");
        }
    }
}
