import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { z } from "zod";

/**
 * What the features of a server's SAEs stand for: the tokens of a text, with what is around them, that drive features
 * highest. For each SAE the features whose strongest tokens stand out most. As Markdown, or with --json.
 * `npm run contexts -- --target http://127.0.0.1:8080 --text book.txt`
 */
const { values } = parseArgs({
  options: {
    target: { type: "string", default: "http://127.0.0.1:8080" },
    text: { type: "string" },
    characters: { type: "string", default: "330000" },
    features: { type: "string", default: "5" },
    contexts: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});

/** Pieces of about this many characters are read on their own. */
const PIECE = 800;
/** Features that are read of a token. */
const STRONGEST = 256;
/** Strongest tokens that are kept of a feature. */
const KEPT = 20;
/** Features that are above 0 on fewer tokens say too little, and on a larger share of all tokens too much. */
const [FEWEST, LARGEST_SHARE] = [KEPT, 0.05];
/** Of a feature's strongest tokens so many must have this many letters: single letters say little about a text. */
const [WORDS, LETTERS] = [0.8 * KEPT, 3];
/** Tokens shown before and after the one that drives a feature. */
const [BEFORE, AFTER] = [8, 3];

const Saes = z.object({ data: z.array(z.object({ id: z.string() })) });
const Token = z.object({
  text: z.string(),
  saes: z.array(z.object({ sae: z.string(), top: z.array(z.tuple([z.number(), z.number()])) })),
});
const Features = z.object({ data: z.array(z.object({ tokens: z.array(Token) })) });

interface Context {
  readonly value: number;
  readonly token: string;
  readonly before: string;
  readonly after: string;
}

interface Feature {
  readonly feature: number;
  active: number;
  sum: number;
  strongest: Context[];
}

const found = new Map<string, Map<number, Feature>>();
let tokens = 0;
try {
  await readText();
  const report = [...found].map(([sae, features]) => ({ sae, features: standouts([...features.values()]) }));
  process.stdout.write(values.json ? `${JSON.stringify({ tokens, saes: report })}\n` : markdown(report));
} catch (error) {
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
  process.stderr.write(`contexts: ${error instanceof Error ? error.message : error}${cause}\n`);
  process.exitCode = 1;
}

/** Reads the text piece by piece, by all SAEs. */
async function readText(): Promise<void> {
  if (values.text === undefined) throw new Error("say --text <file>");
  const saes = Saes.parse(await ask("/v1/saes")).data.map(({ id }) => id);
  for (const sae of saes) found.set(sae, new Map());
  const pieces = piecesOf(readFileSync(values.text, "utf8").slice(0, Number(values.characters)));
  for (const [done, input] of pieces.entries()) {
    const [piece] = Features.parse(await ask("/v1/features", { input, saes, top: STRONGEST })).data;
    tokens += piece?.tokens.length ?? 0;
    note(piece?.tokens ?? []);
    if (process.stderr.isTTY) process.stderr.write(`\r${done + 1} of ${pieces.length} pieces`);
  }
}

async function ask(path: string, body?: object): Promise<unknown> {
  const url = new URL(path, values.target);
  const asked = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(url, asked);
  if (!response.ok) throw new Error(`${url} answers ${response.status}: ${await response.text()}`);
  return response.json();
}

/** Sentences, put together until they are long enough. */
function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  let piece = "";
  for (const word of text.replace(/\s*\n\s*/g, " ").split(/(?<= )/)) {
    piece += word;
    if (piece.length < PIECE || !(/[.!?]"? $/.test(word) || piece.length >= 2 * PIECE)) continue;
    pieces.push(piece.trim());
    piece = "";
  }
  return piece === "" ? pieces : [...pieces, piece];
}

function note(piece: z.output<typeof Token>[]): void {
  const text = (from: number, to: number) =>
    piece
      .slice(Math.max(1, from), to) // the first is the beginning-of-text token
      .map((token) => token.text)
      .join("")
      .replace(/\s+/g, " ");
  for (const [pos, { text: token, saes }] of piece.entries()) {
    if (pos === 0) continue;
    for (const { sae, top } of saes)
      for (const [number, value] of top) {
        const ofSae = found.get(sae);
        const feature = ofSae?.get(number) ?? { feature: number, active: 0, sum: 0, strongest: [] };
        ofSae?.set(number, feature);
        feature.active += 1;
        feature.sum += value;
        if (feature.strongest.length === KEPT && value <= (feature.strongest.at(-1)?.value ?? 0)) continue;
        const context = { value, token, before: text(pos - BEFORE, pos), after: text(pos + 1, pos + 1 + AFTER) };
        feature.strongest = [...feature.strongest, context].sort((a, b) => b.value - a.value).slice(0, KEPT);
      }
  }
}

/** Features whose strongest tokens stand out most from their usual activation; each led by another token. */
function standouts(features: readonly Feature[]): Feature[] {
  const peak = ({ strongest, sum, active }: Feature) =>
    strongest.reduce((total, { value }) => total + value, 0) / strongest.length / (sum / active);
  const chosen: Feature[] = [];
  const leaders = new Set<string>();
  const isWord = ({ token }: Context) => token.replace(/[^a-z]/gi, "").length >= LETTERS;
  const sorted = features
    .filter(({ active }) => active >= FEWEST && active <= LARGEST_SHARE * tokens)
    .filter(({ strongest }) => strongest.filter(isWord).length >= WORDS)
    .sort((a, b) => peak(b) - peak(a));
  for (const feature of sorted) {
    const leader = feature.strongest[0]?.token.trim().toLowerCase() ?? "";
    if (leaders.has(leader)) continue;
    leaders.add(leader);
    chosen.push(feature);
    if (chosen.length === Number(values.features)) break;
  }
  return chosen;
}

function markdown(report: readonly { readonly sae: string; readonly features: readonly Feature[] }[]): string {
  // Markdown wants no space within the stars.
  const bold = (token: string) => token.replace(/\S.*\S|\S/s, "**$&**");
  const line = ({ value, token, before, after }: Context) => `${value.toFixed(1)} …${before}${bold(token)}${after}…`;
  const rows = report.flatMap(({ sae, features }) =>
    features.map(
      ({ feature, active, strongest }) =>
        `| ${sae} | ${feature} | ${((100 * active) / tokens).toFixed(2)} % | ${strongest
          .slice(0, Number(values.contexts))
          .map(line)
          .join("<br>")
          .replaceAll("|", "\\|")} |`,
    ),
  );
  return ["| SAE | feature | active on | driven highest by |", "|---|---|---|---|", ...rows, ""].join("\n");
}
