import { closing, legend } from "./legend.js";
import { MARKS, type Palette } from "./palette.js";
import { printable } from "./printable.js";
import { createScale, type Scale } from "./scale.js";
import type { Trace, TracedToken, TraceView } from "./view.js";

/** Tokens whose text is not all released yet, with what is left of it. */
interface Held {
  readonly level: number;
  rest: string;
}

/** The running text, each token on the background of its value. */
export function textView(trace: Trace, palette: Palette, scale: Scale): TraceView {
  const held: Held[] = [];
  const release = (text: string) => attribute(held, text).map(({ part, level }) => shaded(part, level, palette));
  return {
    start: () => (trace.sequence.features?.prompt ? "" : lines(trace.prompt, palette.dim)),
    token({ name, text, value, pos }: TracedToken) {
      held.push({ level: scale.level(value, pos), rest: name });
      return release(text).join("");
    },
    end(ending) {
      const rest = release(ending?.text ?? "").join("");
      return `${rest}${palette.reset}\n${legend(trace, palette, scale)}${closing(ending, palette)}`;
    },
  };
}

/** The table, and at its end the running text, coloured over the range of all tokens. */
export function tableThenTextView(table: TraceView, trace: Trace, palette: Palette, scale: Scale): TraceView {
  const tokens: TracedToken[] = [];
  return {
    start: table.start,
    token(token) {
      tokens.push({ ...token, saes: [] });
      return table.token(token);
    },
    end(ending) {
      const text = textView(trace, palette, createScale(scale.range()));
      return [
        palette.reset,
        palette.dim("# text"),
        "\n",
        text.start(),
        ...tokens.map(text.token),
        text.end(ending),
      ].join("");
    },
  };
}

/**
 * Gives released text to the tokens that it came from: a stop string that was undecided holds back the text of several.
 * Text that is not what the tokens are called (characters of several tokens) goes to the last of them.
 */
function attribute(held: Held[], text: string): { part: string; level: number }[] {
  const parts: { part: string; level: number }[] = [];
  let left = text;
  while (left !== "") {
    const [first] = held;
    if (first === undefined) return [...parts, { part: left, level: 0 }];
    if (first.rest.startsWith(left)) {
      first.rest = first.rest.slice(left.length);
      if (first.rest === "") held.shift();
      return [...parts, { part: left, level: first.level }];
    }
    if (held.length === 1 || first.rest === "" || !left.startsWith(first.rest)) {
      const level = held.at(-1)?.level ?? 0;
      held.length = 0;
      return [...parts, { part: left, level }];
    }
    parts.push({ part: first.rest, level: first.level });
    left = left.slice(first.rest.length);
    held.shift();
  }
  return parts;
}

function shaded(text: string, level: number, palette: Palette): string {
  if (palette.colored) return lines(text, (line) => palette.shade(line, level));
  return lines(text, (line) => (line === "" || level === 0 ? line : `${line}${MARKS[level]}`));
}

/** The text with its line breaks, each piece between them printable and styled. */
function lines(text: string, style: (line: string) => string): string {
  return text
    .split("\n")
    .map((line, i, all) => style(printable(i + 1 < all.length ? `${line}\n` : line)))
    .join("\n");
}
