/** Who asks and whether they may: API keys as bearer tokens, and a role that every route must state. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { findPrincipal, hashApiKey, type Principal, type Role, roleCovers } from '../domain/access/api-key.ts';
import { FerryError } from '../kernel/errors.ts';
import type { Queryable } from '../postgres/connection.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The least role that may use the route; `public` asks for no key. A route without it is refused at start. */
    role?: Role | 'public';
  }
  interface FastifyRequest {
    /** Set on every route that is not public. */
    principal: Principal | null;
  }
}

/** A key that was revoked is refused at the latest after this long. */
const CACHE_MS = 5_000;
const CACHE_MAX = 1_000;

/** Checks keys on all routes that are registered afterwards. */
export function registerAuthentication(app: FastifyInstance, db: Queryable): void {
  const lookUp = cachedLookUp(db);
  app.decorateRequest('principal', null);
  app.addHook('onRoute', (route) => {
    if (route.config?.role === undefined) throw new Error(`route ${String(route.method)} ${route.url} states no role`);
  });
  app.addHook('onRequest', async (request) => {
    const { role } = request.routeOptions.config;
    if (role === 'public') return;
    if (request.is404) return;
    const key = /^Bearer ([\w-]{1,200})$/i.exec(request.headers.authorization ?? '')?.[1];
    if (key === undefined) throw new FerryError('UNAUTHENTICATED', 'the request has no API key');
    const principal = await lookUp(hashApiKey(key));
    if (principal === null) throw new FerryError('UNAUTHENTICATED', 'the API key is unknown, expired or revoked');
    if (role === undefined || !roleCovers(principal.role, role)) {
      throw new FerryError('FORBIDDEN', `this needs the role ${role}; the key has ${principal.role}`);
    }
    request.principal = principal;
  });
}

/** The principal of a request on a route that is not public. */
export function principalOf(request: FastifyRequest): Principal {
  if (request.principal === null) throw new Error('a public route asked for its principal');
  return request.principal;
}

/** Look-ups by hash, remembered for some seconds; unknown keys are not remembered, so that a flood of them evicts nobody. */
function cachedLookUp(db: Queryable): (hash: Buffer) => Promise<Principal | null> {
  const known = new Map<string, { principal: Principal; until: number }>();
  return async (hash) => {
    const name = hash.toString('base64');
    const cached = known.get(name);
    if (cached !== undefined && cached.until > performance.now()) return cached.principal;
    known.delete(name);
    const principal = await findPrincipal(db, hash);
    if (principal === null) return null;
    const [oldest] = known.keys();
    if (known.size >= CACHE_MAX && oldest !== undefined) known.delete(oldest);
    known.set(name, { principal, until: performance.now() + CACHE_MS });
    return principal;
  };
}
