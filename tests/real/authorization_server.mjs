// An authorization server as others wrote it: sign-in and consent pages, registration, PKCE, resource indicators, JWT
// access tokens, introspection, key rotation. Argument: a JSON file with the folder of the package, port, keys, lifetime.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const told = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { default: Provider } = await import(pathToFileURL(`${told.folder}/lib/index.js`));

const { default: MemoryAdapter } = await import(pathToFileURL(`${told.folder}/lib/adapters/memory_adapter.js`));

// Clients register for the scopes they want first; this server lets each ask for more later.
class Adapter extends MemoryAdapter {
  upsert(id, payload, expiresIn) {
    const { scope, ...kept } = payload;
    return super.upsert(id, this.model === 'Client' ? kept : payload, expiresIn);
  }
}

const provider = new Provider(`http://127.0.0.1:${told.port}`, {
  adapter: Adapter,
  scopes: ['openid', 'offline_access', 'mcp', 'notes:read', 'notes:write'],
  jwks: { keys: told.keys },
  clients: [
    {
      client_id: 'robot',
      client_secret: told.secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
    { client_id: 'host', client_secret: told.secret, grant_types: [], redirect_uris: [], response_types: [] },
  ],
  clientDefaults: { id_token_signed_response_alg: told.keys[0].alg },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'mcp notes:read notes:write',
        audience: resource,
        accessTokenFormat: told.format,
        accessTokenTTL: told.lifetime,
        jwt: { sign: { alg: told.keys[0].alg } },
      }),
    },
  },
  issueRefreshToken: () => true,
});
provider.listen(told.port, '127.0.0.1');
