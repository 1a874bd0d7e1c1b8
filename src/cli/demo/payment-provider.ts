/** The demo's hand on the payment provider: what goes wrong there, and what it has on its books. */
import type { ProviderCharge } from './saga-proof.ts';

/** Declined cards, refusals, answers that are lost after the charge was made, and answers given twice: a part of all requests. */
export async function injectFailures(url: string | undefined, rate: number): Promise<void> {
  const faults = { declineRate: rate / 2, failureRate: rate / 2, lostAnswerRate: rate / 4, duplicateRate: rate / 4 };
  await ask(url, '/faults', { method: 'PUT', body: JSON.stringify(faults) });
}

/** Every charge that was ever asked for. */
export async function readCharges(url: string | undefined): Promise<ProviderCharge[]> {
  const { charges } = (await ask(url, '/charges')) as { charges: ProviderCharge[] };
  return charges;
}

async function ask(url: string | undefined, path: string, request: RequestInit = {}): Promise<unknown> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(new URL(path, url), { headers, signal: AbortSignal.timeout(10_000), ...request });
  if (!response.ok) throw new Error(`the payment provider answered ${response.status} to ${path}`);
  return response.json();
}
