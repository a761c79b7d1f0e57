use std::path::PathBuf;

use crate::config::{Endpoint, SecretSource};

/// Tokens of an OAuth 2.0 authorization server (RFC 6749).
#[derive(Debug, Clone)]
pub struct OauthSpec {
    pub token: Endpoint,
    /// RFC 7009; None: what it issues lives until it expires.
    pub revocation: Option<Endpoint>,
    /// How it names itself: the audience of what is signed for it.
    pub issuer: Option<Box<str>>,
    /// As whom Remit asks; None only where the grant needs none.
    pub client: Option<ClientSpec>,
    pub grant: OauthGrant,
}

impl OauthSpec {
    /// Where its secrets are.
    #[must_use]
    pub fn sources(&self) -> Vec<&SecretSource> {
        let client = match self.client.as_ref().map(|c| &c.proof) {
            Some(ClientProof::Basic(s) | ClientProof::Post(s) | ClientProof::Assertion(s)) => Some(s),
            Some(ClientProof::Key(key)) => Some(&key.pem),
            Some(ClientProof::Nothing) | None => None,
        };
        let (one, two) = match &self.grant {
            OauthGrant::ClientCredentials => (None, None),
            OauthGrant::RefreshToken { token, .. } => (Some(token), None),
            OauthGrant::JwtBearer(AssertionSpec::Held(s)) => (Some(s), None),
            OauthGrant::JwtBearer(AssertionSpec::Signed(s)) => (Some(&s.key.pem), None),
            OauthGrant::TokenExchange { subject, actor } => {
                let subject = match subject {
                    SubjectSpec::Held(s, _) => Some(s),
                    SubjectSpec::Principal(_) => None,
                };
                let actor = actor.as_ref().and_then(|actor| match actor {
                    ActorSpec::Held(s, _) => Some(s),
                    ActorSpec::Signed(s) => Some(&s.key.pem),
                    ActorSpec::Svid(_) => None,
                });
                (subject, actor)
            }
        };
        client.into_iter().chain(one).chain(two).collect()
    }

    /// Whether the token that proved a task's principal is what it exchanges.
    #[must_use]
    pub fn exchanges_principal(&self) -> bool {
        matches!(&self.grant, OauthGrant::TokenExchange { subject: SubjectSpec::Principal(_), .. })
    }
}

/// A client as the authorization server registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSpec {
    pub id: Box<str>,
    pub proof: ClientProof,
}

/// By what a client shows that it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientProof {
    /// A public client: by nothing.
    Nothing,
    /// `client_secret_basic` (RFC 6749 §2.3.1).
    Basic(SecretSource),
    /// `client_secret_post`.
    Post(SecretSource),
    /// `private_key_jwt` (RFC 7523 §2.2).
    Key(KeySpec),
    /// A token of another issuer that the server trusts (RFC 7521 §4.2): a service account's, a JWT-SVID.
    Assertion(SecretSource),
}

/// A private key in PEM, and how the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    pub pem: SecretSource,
    /// None: a signature names no key, and the server tries those that it has.
    pub kid: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OauthGrant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §6: what a user's consent gave.
    RefreshToken { token: SecretSource, keep: KeepSpec },
    /// RFC 7523 §2.1.
    JwtBearer(AssertionSpec),
    /// RFC 8693.
    TokenExchange { subject: SubjectSpec, actor: Option<ActorSpec> },
}

/// Where a rotated refresh token is kept, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepSpec {
    pub file: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionSpec {
    /// Someone else signs it, and renews it in its place.
    Held(SecretSource),
    Signed(SignedSpec),
}

/// A token that Remit signs itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSpec {
    pub key: KeySpec,
    /// Its `iss`.
    pub issuer: Box<str>,
    /// Its `sub`: a text with `{principal.id}`, `{agent.id}`, `{agent.spiffe_id}` or `{task.id}` in it.
    pub subject: Box<str>,
}

/// The type of a token as RFC 8693 §3 names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    AccessToken,
    IdToken,
    Jwt,
}

impl TokenType {
    #[must_use]
    pub fn urn(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
        }
    }
}

/// For whom a token is exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectSpec {
    /// By the token that proved the task's principal.
    Principal(TokenType),
    Held(SecretSource, TokenType),
}

/// Who acts, where that is shown apart from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorSpec {
    /// The agent's own token, a JWT-SVID say, that is renewed in its place.
    Held(SecretSource, TokenType),
    /// Remit's own JWT-SVID for this audience, where Remit runs beside one agent and has its identity.
    Svid(Box<str>),
    Signed(SignedSpec),
}
