/** Ferry's version, as package.json has it: stands in checkpoints, telemetry and `./ferry --version`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

// Read and not imported: the compiled package has it in the same place, and an import would have to be compiled with it.
const manifest = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as {
  readonly version: string;
};

export const FERRY_VERSION: string = manifest.version;
