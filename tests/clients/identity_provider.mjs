// An OpenID provider on loopback: `identity_provider.mjs PORT KID`. Its keys are made anew at each start.
//
// client_credentials gives the client's own token; token exchange (RFC 8693) gives one for the person that the
// subject token names, with the client as `act`.
import { generateKeyPairSync } from 'node:crypto';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.NODE_PATH}/`);
const { Provider } = await import(require.resolve('oidc-provider'));
const [port, kid] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...key, kid, use: 'sig', alg: 'RS256' }] },
  clients: ['triage-bot', 'stranger'].map((id) => ({
    client_id: id, client_secret: `${id}-s-own`, grant_types: ['client_credentials', EXCHANGE], redirect_uris: [], response_types: [],
  })),
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  extraTokenClaims: (ctx) => ctx.oidc.params?.subject_token && { act: { sub: ctx.oidc.client.clientId, act: { sub: 'older' } } },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:remit',
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({ scope: '', audience: resource, accessTokenTTL: 300, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
    },
  },
});

provider.registerGrantType(EXCHANGE, async (ctx) => {
  const token = new provider.AccessToken({ accountId: ctx.oidc.params.subject_token, client: ctx.oidc.client, grantId: 'none', gty: 'exchange' });
  token.resourceServer = new provider.ResourceServer('urn:remit', { scope: '', audience: 'urn:remit', accessTokenTTL: 300, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } });
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' };
}, ['subject_token', 'subject_token_type'], []);

provider.on('server_error', (_, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
