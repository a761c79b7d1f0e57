// An authorization server on loopback: `authorization_server.mjs PORT FILE`. FILE holds the clients, and the public keys (JWK)
// of those who sign as actors, by their `iss`.
//
// Token exchange (RFC 8693) takes a token of this server or one that it issued for Remit, never gives a scope that the subject
// does not have, and says in `act` who acts: the actor token's subject, or the client. Tokens for https://crm.example.test are
// opaque (introspection and revocation know them); for any other resource they are JWTs.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.NODE_PATH}/`);
const { Provider, errors } = await import(require.resolve('oidc-provider'));
const { jwtVerify, importJWK, createLocalJWKSet } = await import(require.resolve('jose'));
const [port, file] = process.argv.slice(2);
const { clients, actors, scopes } = JSON.parse(readFileSync(file));
const issuer = `http://127.0.0.1:${port}`;
const key = { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid: 'k1', use: 'sig', alg: 'RS256' };
const own = createLocalJWKSet({ keys: [{ kty: key.kty, n: key.n, e: key.e, kid: key.kid, alg: key.alg, use: key.use }] });
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const CRM = 'https://crm.example.test';

const server = (resource) => ({
  scope: scopes.join(' '), audience: resource, accessTokenTTL: 120,
  accessTokenFormat: resource === CRM ? 'opaque' : 'jwt', jwt: { sign: { alg: 'RS256' } },
});

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  clients,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: (ctx) => ctx?.acting && { act: ctx.acting },
  // the test's own door: a person's consent, without a browser
  rotateRefreshToken: true,
  issueRefreshToken: () => true,
  scopes,
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => {
        if (!resource.startsWith('https://') && resource !== 'urn:remit') throw new errors.InvalidTarget('no such resource');
        return server(resource);
      },
    },
  },
});

async function subject(text) {
  try {
    const { payload } = await jwtVerify(text, own, { issuer });
    return { id: payload.sub, scope: payload.scope };
  } catch { throw new errors.InvalidGrant('the subject token is not ours, or over'); }
}

async function actor(params, client) {
  if (!params.actor_token) return { sub: client.clientId };
  if (params.actor_token_type !== 'urn:ietf:params:oauth:token-type:jwt') throw new errors.InvalidRequest('an actor token of another type');
  const claimed = JSON.parse(Buffer.from(params.actor_token.split('.')[1], 'base64url'));
  if (!actors[claimed.iss]) throw new errors.InvalidGrant('an actor of nobody known');
  try {
    const { payload } = await jwtVerify(params.actor_token, await importJWK(actors[claimed.iss]), { issuer: claimed.iss, audience: issuer, maxTokenAge: '5 min' });
    return { sub: payload.sub, iss: payload.iss };
  } catch { throw new errors.InvalidGrant('the actor token is not believed'); }
}

async function grant(ctx, accountId, resource, scope) {
  const grant = new provider.Grant({ accountId, clientId: ctx.oidc.client.clientId });
  grant.addResourceScope(resource, scope);
  return grant.save();
}

provider.registerGrantType(EXCHANGE, async (ctx) => {
  const { params, client } = ctx.oidc;
  if (params.requested_token_type && params.requested_token_type !== 'urn:ietf:params:oauth:token-type:access_token') throw new errors.InvalidRequest('another type of token');
  const of = await subject(params.subject_token);
  const wanted = (params.scope ?? '').split(' ').filter(Boolean);
  if (!wanted.every((s) => (of.scope ?? '').split(' ').includes(s))) throw new errors.InvalidScope('more than the subject has', params.scope);
  if (params.resource !== CRM) throw new errors.InvalidTarget('no such resource');
  ctx.acting = await actor(params, client);
  const token = new provider.AccessToken({ accountId: of.id, client, grantId: await grant(ctx, of.id, params.resource, params.scope), gty: 'exchange', scope: params.scope });
  token.resourceServer = new provider.ResourceServer(params.resource, server(params.resource));
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: 120, scope: params.scope, issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' };
}, ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'scope', 'resource', 'audience'], ['audience', 'resource']);

// The token by which a person shows Remit who she is, and the refresh token of her consent: what a browser would have brought.
provider.registerGrantType('urn:example:person', async (ctx) => {
  const { params, client } = ctx.oidc;
  const resource = params.consent ? CRM : 'urn:remit';
  const grantId = await grant(ctx, params.person, resource, params.scope);
  if (params.consent) {
    const refresh = new provider.RefreshToken({ accountId: params.person, client, grantId, gty: 'refresh_token', scope: params.scope, resource, iiat: Math.floor(Date.now() / 1000) });
    ctx.body = { refresh_token: await refresh.save() };
    return;
  }
  const token = new provider.AccessToken({ accountId: params.person, client, grantId, gty: 'person', scope: params.scope });
  token.resourceServer = new provider.ResourceServer(resource, server(resource));
  ctx.body = { access_token: await token.save(), token_type: 'Bearer' };
}, ['person', 'scope', 'consent'], []);

provider.on('server_error', (_, error) => console.error(error));
provider.on('grant.error', (_, error) => console.error(error.error, error.error_description, error.error_detail));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
