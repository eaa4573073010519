import { existsSync } from "node:fs";
import { loadPyodide } from "pyodide";
import * as z from "zod";
import type { ChatTemplate } from "../model-source.js";
import type { Conversation } from "./chat-template.js";
import { compiledArchive, pyodideFolder, readPython } from "./python-archive.js";

/** What a template and a conversation come to. */
export type Rendered =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: Refusal; readonly message: string };

/** What a template comes to before it has a conversation. */
export type Checked = { readonly type: "accepted" } | { readonly type: Refusal; readonly message: string };

/**
 * refused: the template raises an exception of its own on this conversation, or fails on it while it renders a plainer one.
 * unsupported: Jinja cannot compile the template, or it needs other files. exhausted: there is no memory left for it.
 * failed: it is broken, or its text is too long.
 */
type Refusal = "refused" | "unsupported" | "exhausted" | "failed";

/** Memory of the interpreter, bytes, 31 MB of which it takes for itself. */
const LARGEST_MEMORY = 384 << 20;
const PAGE = 1 << 16;

/** A WebAssembly.Memory, which Node's types leave out. */
interface GrowingMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
const Internals = z.object({
  _module: z.object({
    memory: z.custom<GrowingMemory>((found) => Object.prototype.toString.call(found) === "[object WebAssembly.Memory]"),
  }),
});
const Outcome = z.tuple([z.enum(["text", "accepted", "refused", "unsupported", "exhausted", "failed"]), z.string()]);

/** Jinja itself, which renders what transformers renders: jinja2 on a CPython of WebAssembly (Pyodide). */
export interface Jinja {
  /** Compiles a template. */
  check(template: string): Checked;
  /**
   * The text of a conversation, as transformers' `apply_chat_template` makes it. Where a template takes strings only,
   * text parts are joined by line breaks, as vLLM does. A developer's message counts as the system's where the template
   * does not know that role.
   *
   * No beginning-of-text token is added: a template that wants one has it. Control tokens that stand in a message's
   * content are control tokens in the text, as everywhere with these templates: who passes on what strangers wrote must
   * take them out of it.
   *
   * A template may run for ever, so one that nobody vouches for is rendered where that does no harm:
   * runtime/prompts/.
   * @param longest characters of the text
   * @throws where the interpreter has died (its stack overflowed), after which it cannot be used any more.
   */
  render(template: ChatTemplate, conversation: Conversation, longest: number): Rendered;
}

/**
 * Loads the interpreter, which takes a second or two and 180 MB. It sees no files of this machine, no network, and nothing of
 * Node: templates run in Jinja's sandbox, and what would escape from it is alone in an empty WebAssembly machine.
 */
export async function startJinja(): Promise<Jinja> {
  const silent = () => {};
  const compiled = compiledArchive();
  const python = await loadPyodide({
    indexURL: pyodideFolder(),
    ...(existsSync(compiled) ? { stdLibURL: compiled } : {}),
    jsglobals: Object.create(null),
    stdout: silent,
    stderr: silent,
    stdin: () => null,
  });
  limitMemory(Internals.parse(python)._module.memory);
  const folder = "/chat";
  python.FS.mkdir(folder);
  for (const file of ["jinja2.zip", "chat_template.py", "content_parts.py"])
    python.FS.writeFile(`${folder}/${file}`, readPython(file));
  python.runPython(`
    import sys
    sys.path += ["${folder}", "${folder}/jinja2.zip"] # behind the compiled archive, which has Jinja too
    import chat_template
    for bridge in ("js", "pyodide_js"): # to JavaScript
        sys.modules[bridge] = None
  `);
  const { check, render } = python.pyimport("chat_template");
  const outcome = (result: { toJs(): unknown; destroy(): void }) => {
    const [type, text] = Outcome.parse(result.toJs());
    result.destroy();
    return { type, text };
  };
  return {
    check(template) {
      const { type, text } = outcome(check(template));
      return type === "text" || type === "accepted" ? { type: "accepted" } : { type, message: text };
    },
    render({ template, tokens }, { messages, tools, variables, ...asked }, longest) {
      const known = Object.entries(tokens).map(([name, token]) => [name, JSON.stringify(token)] as const);
      const values = jsonObject([...known, ...Object.entries(variables), ["tools", tools ?? "null"]]);
      const { type, text } = outcome(
        render(template, messages, values, asked.addGenerationPrompt, asked.continueFinalMessage, longest),
      );
      return type === "text" || type === "accepted" ? { type: "text", text } : { type, message: text };
    },
  };
}

const jsonObject = (members: readonly (readonly [string, string])[]): string =>
  `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;

/** Python raises MemoryError where its memory cannot grow. */
function limitMemory(memory: GrowingMemory): void {
  const grow = memory.grow.bind(memory);
  memory.grow = (pages) => {
    if (memory.buffer.byteLength + pages * PAGE > LARGEST_MEMORY)
      throw new RangeError("the limit of memory is reached");
    return grow(pages);
  };
}
