import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

/**
 * What we use of @huggingface/jinja 0.5, typed: its own declarations leave out the extensions of the files that they
 * import, which TypeScript does not find.
 */

/** A part of a parsed template. */
export interface JinjaNode {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A value while a template is rendered. */
export interface JinjaValue {
  readonly type: string;
  readonly value: unknown;
  /** As a template puts it into its text. */
  toString(): string;
}

/** Everything that a template does goes through `evaluate`, which may be replaced. */
export interface JinjaInterpreter {
  evaluate(node: JinjaNode | undefined, scope: unknown): JinjaValue;
  run(program: JinjaNode): JinjaValue;
}

/** As transformers sets Jinja: the newline behind a block goes, and so does the white space before it on its line. */
const WHITE_SPACE = { trim_blocks: true, lstrip_blocks: true };

/** @throws SyntaxError where it is no template. */
export const parseJinja = (template: string): JinjaNode => parse(tokenize(template, WHITE_SPACE));

/** One rendering with these variables, of plain data and functions over it. `namespace` is there besides. */
export function jinjaInterpreter(variables: Readonly<Record<string, unknown>>): JinjaInterpreter {
  const environment = new Environment();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  return new Interpreter(environment);
}

const STATEMENTS = ["Set", "If", "For", "Macro", "CallStatement", "FilterStatement", "Comment", "Break", "Continue"];
const BLOCKS = ["body", "alternate", "defaultBlock"];

/** The expressions whose values a template puts into its text: those that stand directly in a block. */
export function printedNodes(program: JinjaNode): ReadonlySet<unknown> {
  const printed = new Set<unknown>();
  const visit = (node: JinjaNode): void => {
    for (const child of BLOCKS.flatMap((block) => nodesIn(node[block]))) {
      if (STATEMENTS.includes(child.type)) visit(child);
      else printed.add(child);
    }
  };
  visit(program);
  return printed;
}

const isNode = (value: unknown): value is JinjaNode => typeof value === "object" && value !== null && "type" in value;
const nodesIn = (value: unknown): JinjaNode[] => (Array.isArray(value) ? value.filter(isNode) : []);

/** How Python writes what the library writes in JavaScript's way, or leaves out. */
export function asPython(value: JinjaValue): JinjaValue {
  const text =
    value.type === "NullValue" ? "None" : value.value === true ? "True" : value.value === false ? "False" : null;
  return text === null ? value : { type: "StringValue", value: text, toString: () => text };
}
