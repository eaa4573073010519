import { readFileSync } from "node:fs";
import { finish, SteppedServer } from "./stepped-server.js";

/** Goes on with the text of a snapshot in a process of its own: restored-child.js <cache folder> <snapshot>. */
const [cacheRoot = "", file = ""] = process.argv.slice(2);
using server = await SteppedServer.open(cacheRoot);
process.stdout.write(JSON.stringify(finish(server, server.restore(readFileSync(file)))));
