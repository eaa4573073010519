import { runCommand } from "./command.js";
import { load } from "./load/load-command.js";

await runCommand("load", load);
