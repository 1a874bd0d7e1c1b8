/** The program: the command line, given what only the composition root can make. */
import { runCli } from './cli/program.ts';

const exitCode = await runCli(process.argv.slice(2), {
  environment: process.env,
  // loaded when it is needed: only `serve` pays for the server, the relay and their telemetry at its start
  startService: async (config) => (await import('./app/service.ts')).startService(config),
});

// All is released and printed here; a socket that a client library forgot must not keep a command from ending.
process.exit(exitCode);
