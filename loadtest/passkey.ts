import { runCommand } from "./command.js";
import { passkey } from "./passkey/passkey-command.js";

await runCommand("passkey", passkey);
