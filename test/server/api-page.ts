import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HARMLESS_FIELDS, REFUSED_FIELDS, type RefusedField } from "../../server/openai/request/known-fields.js";

/** The checked-in page, relative to the package. */
export const API_PAGE = join("docs", "api.md");

/** The page with its tables of other servers' fields as the server has them. */
export function withFieldTables(page: string): string {
  const harmless = [...HARMLESS_FIELDS].sort().map(code).join(", ");
  return withPart(withPart(page, "refused", refusedTable()), "harmless", `${harmless}.`);
}

/** Replaces what stands between the two comments of that name. */
function withPart(page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}: npm run generate:api -->`, `<!-- /${name} -->`];
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from === -1 || to < from) throw new Error(`${API_PAGE} has no part ${name}`);
  return `${page.slice(0, from)}${begin}\n\n${text}\n\n${page.slice(to)}`;
}

/** A row for all fields of which the same is said. */
function refusedTable(): string {
  const rows = new Map<string, string[]>();
  for (const [name, field] of REFUSED_FIELDS) {
    const said = `${field.asks} | ${takenWhere(field)}`;
    rows.set(said, [...(rows.get(said) ?? []), code(name)]);
  }
  const lines = [...rows].map(([said, names]) => `| ${names.join(", ")} | ${said} |`);
  return ["| field | refused, because | taken all the same with |", "|---|---|---|", ...lines].join("\n");
}

function takenWhere({ nothing, partOf }: RefusedField): string {
  const values = ["null", ...nothing.map((value) => JSON.stringify(value))].map(code).join(", ");
  return partOf.length === 0 ? values : `${values}; anything beside ${partOf.map(code).join(" or ")} that says no`;
}

const code = (text: string): string => `\`${text}\``;

if (process.argv[1] === fileURLToPath(import.meta.url))
  await writeFile(API_PAGE, withFieldTables(await readFile(API_PAGE, "utf8")));
