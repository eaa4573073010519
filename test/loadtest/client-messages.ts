import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compile, type JSONSchema } from "json-schema-to-typescript";
import { traceSchema } from "../../server/traces/schema.js";

/** The checked-in file, relative to the package. */
export const CLIENT_MESSAGES = join("loadtest", "client", "messages.ts");

/** TypeScript of the published schema: what loadtest/client/messages.ts must be. */
export function clientMessages(): Promise<string> {
  const schema: JSONSchema = JSON.parse(JSON.stringify(traceSchema));
  return compile(schema, "TraceMessage", {
    additionalProperties: false,
    ignoreMinAndMaxItems: true,
    bannerComment: "// Written by `npm run generate:client` from the schema of server/traces/schema.ts.",
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(CLIENT_MESSAGES, await clientMessages());
