import { runCommand } from "./command.js";
import { perplexity } from "./perplexity/perplexity-command.js";

await runCommand("perplexity", perplexity);
