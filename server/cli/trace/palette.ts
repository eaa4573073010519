/** How many colours the terminal has: none, the 256 of xterm, or 24 bits. */
export type ColorDepth = "none" | "256" | "rgb";

/** What a terminal is told about colour: NO_COLOR (no-color.org), FORCE_COLOR for `less -R`, TERM and COLORTERM. */
export function colorDepth(isTerminal: boolean, env: Readonly<Record<string, string | undefined>>): ColorDepth {
  const forced = env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== "0";
  if (env.NO_COLOR || env.TERM === "dumb" || !(isTerminal || forced)) return "none";
  return env.COLORTERM === "truecolor" || env.COLORTERM === "24bit" ? "rgb" : "256";
}

/** Strength of a colour: 0 is none. */
export const LEVELS = 9;

/** What stands for a level behind a text where colour is not to be had. */
export const MARKS = Array.from("⁰¹²³⁴⁵⁶⁷⁸⁹");

/**
 * From grey to orange with black text on it. Even in lightness (OKLCH 0.60 to 0.74), so that strength is read from the
 * colour on dark and light terminals alike; black on the darkest has a contrast of 5.3 (WCAG AA asks for 4.5).
 */
export const RAMP: readonly (readonly [red: number, green: number, blue: number, xterm: number])[] = [
  [0x7b, 0x7f, 0x93, 102],
  [0x87, 0x7f, 0xa6, 103],
  [0x9c, 0x7c, 0xad, 139],
  [0xb4, 0x79, 0xaa, 175],
  [0xcb, 0x76, 0x9c, 174],
  [0xe0, 0x75, 0x85, 173],
  [0xee, 0x78, 0x64, 209],
  [0xf4, 0x82, 0x35, 208],
  [0xf1, 0x92, 0x00, 214],
];

/** The only place that knows SGR codes (ECMA-48, 8.3.117). */
export interface Palette {
  readonly colored: boolean;
  /** The text on the background of a level. It holds no line break: the colour would run to the terminal's edge. */
  shade(text: string, level: number): string;
  dim(text: string): string;
  bold(text: string): string;
  /** Ends whatever was begun; for an output that is broken off. */
  readonly reset: string;
}

export function createPalette(depth: ColorDepth): Palette {
  if (depth === "none") {
    const plain = (text: string) => text;
    return { colored: false, shade: plain, dim: plain, bold: plain, reset: "" };
  }
  const styled = (text: string, codes: string) => (text === "" ? "" : `\x1b[${codes}m${text}\x1b[0m`);
  return {
    colored: true,
    shade(text, level) {
      const step = RAMP[level - 1];
      if (step === undefined) return text;
      const [red, green, blue, xterm] = step;
      return styled(text, depth === "rgb" ? `38;2;0;0;0;48;2;${red};${green};${blue}` : `38;5;16;48;5;${xterm}`);
    },
    dim: (text) => styled(text, "2"),
    bold: (text) => styled(text, "1"),
    reset: "\x1b[0m",
  };
}
