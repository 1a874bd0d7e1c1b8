/** Whether the parts around a process answer, for its readiness: cheap, bounded, and without a client of the part. */
import { connect } from 'node:net';
import type { Config } from '../config/variables.ts';

/** Nothing here is needed to take a write in, so what does not answer degrades and no more. */
export interface ReachState {
  readonly state: 'ok' | 'degraded';
  readonly detail?: string;
}

const TIMEOUT_MS = 1_000;

/** Ok if any broker accepts a connection. */
export async function kafkaState(config: Pick<Config, 'KAFKA_BROKERS'>): Promise<ReachState> {
  const brokers = (config.KAFKA_BROKERS ?? '').split(',');
  const reached = await Promise.all(brokers.map(accepts));
  return reached.includes(true) ? { state: 'ok' } : { state: 'degraded', detail: 'no broker accepts connections' };
}

function accepts(broker: string): Promise<boolean> {
  const [, host = '', port = ''] = /^\s*\[?(.*?)\]?:(\d+)\s*$/.exec(broker) ?? [];
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), timeout: TIMEOUT_MS });
    const settle = (reached: boolean) => {
      socket.destroy();
      resolve(reached);
    };
    socket.once('connect', () => settle(true));
    socket.once('timeout', () => settle(false));
    socket.once('error', () => settle(false));
  });
}

/** Ok if the registry answers at all; what it answers is for those who ask it something. */
export async function registryState(config: Pick<Config, 'SCHEMA_REGISTRY_URL'>): Promise<ReachState> {
  try {
    const url = new URL(config.SCHEMA_REGISTRY_URL ?? '');
    url.username = '';
    url.password = '';
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS), redirect: 'manual' });
    await response.body?.cancel();
    return response.status < 500 ? { state: 'ok' } : { state: 'degraded', detail: `answers ${response.status}` };
  } catch {
    return { state: 'degraded', detail: 'does not answer' };
  }
}
