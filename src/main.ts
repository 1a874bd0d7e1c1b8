/** The program: the command line, given what only the composition root can make. */
import { startService } from './app.ts';
import { runCli } from './cli/program.ts';

process.exitCode = await runCli(process.argv.slice(2), { environment: process.env, startService });
