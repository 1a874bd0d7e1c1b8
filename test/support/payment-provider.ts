/** The real payment provider in a process of its own, for a test file; it can be told to fail, killed and started again. */
import { rmSync } from 'node:fs';
import { after } from 'node:test';
import { EmbeddedPart } from '../../src/embedded/part.ts';
import type { Charge } from '../../src/embedded/payment-charges.ts';
import { NO_FAULTS, type PaymentFaults } from '../../src/embedded/payment-faults.ts';
import { paymentProviderRecipe, paymentProviderUrl } from '../../src/embedded/payment-provider.ts';
import { freePort } from '../../src/embedded/ports.ts';
import { claimTestHome } from './stack.ts';

export interface TestPaymentProvider {
  readonly url: string;
  readonly part: EmbeddedPart;
  /** These faults and no others, from now on. */
  setFaults(faults: Partial<PaymentFaults>): Promise<void>;
  charges(): Promise<Charge[]>;
  charge(key: string): Promise<Charge | undefined>;
}

/** Ends with the test file. */
export async function testPaymentProvider(): Promise<TestPaymentProvider> {
  const home = await claimTestHome();
  const port = await freePort();
  const url = paymentProviderUrl(port);
  const part = new EmbeddedPart(paymentProviderRecipe(home, port), () => {});
  await part.start();
  after(async () => {
    await part.stop();
    rmSync(home.directory, { recursive: true });
  });
  const charges = async () => {
    const answer = (await (await fetch(`${url}/charges`)).json()) as { charges: Charge[] };
    return answer.charges;
  };
  return {
    url,
    part,
    charges,
    charge: async (key) => (await charges()).find((charge) => charge.key === key),
    setFaults: async (faults) => {
      const body = JSON.stringify({ ...NO_FAULTS, ...faults });
      const answer = await fetch(`${url}/faults`, { method: 'PUT', body });
      if (!answer.ok) throw new Error(`the provider refuses the faults: ${await answer.text()}`);
    },
  };
}
