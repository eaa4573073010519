import type { ChatTemplate } from "../model-source.js";
import {
  asPython,
  type JinjaInterpreter,
  type JinjaNode,
  type JinjaValue,
  jinjaInterpreter,
  parseJinja,
  printedNodes,
} from "./jinja.js";
import { strftime } from "./strftime.js";

/** A turn of a conversation, with whatever else a template may look at: name, tool_call_id, tool_calls. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string | null;
  readonly [field: string]: unknown;
}

/** What a template is rendered for. Plain data. */
export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** Ends the text with the beginning of an assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Ends the text inside of the last message, so that what comes goes on with it. Not together with the above. */
  readonly continueFinalMessage: boolean;
  /** JSON schemas of functions; null: none. */
  readonly tools: readonly unknown[] | null;
  /** Variables beyond the usual ones (vLLM's `chat_template_kwargs`). */
  readonly variables: Readonly<Record<string, unknown>>;
}

/** The template itself refuses this conversation (`raise_exception`): unknown roles, turns that do not alternate. */
export class TemplateRefusal extends Error {
  override readonly name = "TemplateRefusal";
}

/** What a rendering may take. */
export interface RenderLimits {
  /** Milliseconds. */
  readonly ms: number;
  /** UTF-16 units of any text that comes about on the way, the result included. */
  readonly length: number;
}

/** As Jinja's sandbox has it, in which transformers renders. */
const LONGEST_RANGE = 100_000;
/** Steps between two looks at the clock. */
const STEPS = 256;
/** Stands behind a message that is to be continued. Noncharacters, which no text is made of; the space shows trimming. */
const MARK = "\uFDD1\uFDD2";

/**
 * Parses a template; the result renders conversations as transformers' `apply_chat_template` does (Jinja with trim_blocks
 * and lstrip_blocks). A developer's message counts as the system's where the template does not know that role.
 *
 * No beginning-of-text token is added: a template that wants one has it. Control tokens that stand in a message's content
 * are control tokens in the text, as everywhere with these templates: who passes on what strangers wrote must take them
 * out of it.
 *
 * The limits hold between steps of the template. A single step may take any time and memory (a slice of a long string), so
 * a template that nobody vouches for is rendered where that does no harm: runtime/template-renderer.ts.
 * @throws SyntaxError where it is no template; the result throws TemplateRefusal where the template raises, and Error where
 * it is broken or reaches a limit.
 */
export function compileChatTemplate({
  template,
  tokens,
}: ChatTemplate): (conversation: Conversation, limits: RenderLimits) => string {
  const program = parseJinja(template);
  const printed = printedNodes(program);
  const knowsDevelopers = template.includes("developer");
  const roleOf = (role: string) => (role === "developer" && !knowsDevelopers ? "system" : role);

  return ({ addGenerationPrompt, continueFinalMessage, tools, variables, ...conversation }, limits) => {
    const messages = conversation.messages.map((message) => ({ ...message, role: roleOf(message.role) }));
    const last = continueFinalMessage ? messages.pop() : undefined;
    if (last) messages.push({ ...last, content: `${last.content ?? ""}${MARK} ` });
    const interpreter = jinjaInterpreter({
      ...GLOBALS,
      documents: null,
      ...tokens,
      ...variables,
      messages,
      tools,
      add_generation_prompt: addGenerationPrompt,
    });
    const text = String(strict(interpreter, printed, limits).run(program).value);
    return last ? upToMark(text) : text;
  };
}

/** Of the library's `range` and `strftime_now` the first has no end and the second the machine's language. */
const GLOBALS = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown) => {
    throw new TemplateRefusal(String(message));
  },
  range: pythonRange,
  strftime_now: (format: unknown) => strftime(new Date(), String(format)),
};

/** Names that a template takes for granted, so that `variables` may not have them. */
export const RESERVED_VARIABLES: ReadonlySet<string> = new Set([
  "namespace",
  "messages",
  "tools",
  "documents",
  "add_generation_prompt",
  ...Object.keys(GLOBALS),
]);

function pythonRange(...args: readonly unknown[]): number[] {
  const numbers = args.filter((arg) => typeof arg === "number");
  const [first = 0, second, step = 1] = numbers;
  if (numbers.length !== args.length || !numbers.every(Number.isInteger) || step === 0 || args.length > 3)
    throw new Error("range() takes one to three whole numbers, the third not 0");
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > LONGEST_RANGE) throw new Error(`a range of ${length} numbers is longer than ${LONGEST_RANGE}`);
  return Array.from({ length }, (_, i) => start + i * step);
}

/**
 * The interpreter, stopped at the limits, and as strict as Jinja: a part of something undefined is an error, where the
 * library goes on and renders nothing. True, False and None are written as Python does.
 */
function strict(interpreter: JinjaInterpreter, printed: ReadonlySet<unknown>, limits: RenderLimits): JinjaInterpreter {
  const evaluate = interpreter.evaluate.bind(interpreter);
  const deadline = performance.now() + limits.ms;
  let steps = 0;
  interpreter.evaluate = (node, scope) => {
    if (node instanceof Evaluated) return node.result;
    if (++steps % STEPS === 0 && performance.now() > deadline) throw new Error(`it runs for more than ${limits.ms} ms`);
    const known = node && isMember(node) ? withObject(node, interpreter.evaluate(node.object, scope)) : node;
    const result = evaluate(known, scope);
    if (typeof result.value === "string" && result.value.length > limits.length)
      throw new Error(`it makes a text of more than ${limits.length} characters`);
    return printed.has(node) ? asPython(result) : result;
  };
  return interpreter;
}

type Member = JinjaNode & { readonly object: JinjaNode };
const isMember = (node: JinjaNode): node is Member => node.type === "MemberExpression";

/** Part of an expression that is known already: evaluating it twice would double the work at every dot. */
class Evaluated implements JinjaNode {
  readonly type = "Evaluated";
  readonly [field: string]: unknown;
  constructor(readonly result: JinjaValue) {}
}

function withObject(node: Member, object: JinjaValue): JinjaNode {
  if (object.type !== "UndefinedValue") return { ...node, object: new Evaluated(object) };
  const name = typeof node.object.value === "string" ? `'${node.object.value}'` : "a value";
  throw new Error(`it asks for a part of ${name}, which is undefined`);
}

function upToMark(text: string): string {
  const at = text.lastIndexOf(MARK);
  if (at === -1) throw new TemplateRefusal("the template leaves out the message that is to be continued");
  const before = text.slice(0, at);
  return text[at + MARK.length] === " " ? before : before.trimEnd();
}
