/** Ferry's version, as package.json has it: stands in checkpoints, telemetry and `./ferry --version`. */
import manifest from '../../package.json' with { type: 'json' };

export const FERRY_VERSION: string = manifest.version;
