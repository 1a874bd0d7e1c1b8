/** Starts a payment provider in the home that it is told, says which process it is, and waits to be ended. */
import { Home } from '../../src/embedded/home.ts';
import { EmbeddedPart } from '../../src/embedded/part.ts';
import { paymentProviderRecipe } from '../../src/embedded/payment-provider.ts';
import { freePort } from '../../src/embedded/ports.ts';
import { identifyProcess } from '../../src/embedded/process-identity.ts';

const home = new Home(process.argv[2] ?? '');
await home.claim();
const part = new EmbeddedPart(paymentProviderRecipe(home, await freePort()), () => {});
await part.start();
process.send?.(identifyProcess(part.pid ?? 0));
