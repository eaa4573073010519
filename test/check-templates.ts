/**
 * Renders a folder of chat templates and compares the texts with those that transformers made of them.
 *
 * npm run check:templates -- <folder>
 *
 * The folder has templates/NAME.jinja, conversations.json (`tokens` for every template; `conversations` by name, with
 * messages and what else `apply_chat_template` takes) and expected.json: by template and conversation {"text"} or
 * {"refused": <Python's exception>}. A line for each template, and one for each text that differs. The exit code is 1
 * where a text differs, or where something else is said of a conversation that the template itself refuses.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { type Jinja, type Rendered, startJinja } from "../models/chat/jinja.js";
import { memberTexts } from "../server/json-members.js";

const Expected = z.union([z.object({ text: z.string() }), z.object({ refused: z.string() })]);
const ExpectedFile = z.record(z.string(), z.record(z.string(), Expected));
const Asked = z.object({
  add_generation_prompt: z.boolean().optional(),
  continue_final_message: z.boolean().optional(),
});
const LONGEST = 1 << 20;

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: npm run check:templates -- <folder>");
  process.exit(2);
}
const read = (name: string) => readFileSync(join(folder, name), "utf8");
const given = memberTexts(read("conversations.json"));
const tokens = z.record(z.string(), z.string()).parse(JSON.parse(given.get("tokens") ?? "{}"));
const conversations = memberTexts(given.get("conversations") ?? "{}");
const expected = ExpectedFile.parse(JSON.parse(read("expected.json")));

const jinja = await startJinja();
const count = { equal: 0, refused: 0, different: 0 };
for (const [name, byConversation] of Object.entries(expected)) {
  const file = `templates/${name}.jinja`;
  const template = { file, template: read(file), tokens };
  const own = { equal: 0, refused: 0, different: 0 };
  const differences: string[] = [];
  for (const [conversation, wanted] of Object.entries(byConversation)) {
    const rendered = renderConversation(jinja, template, conversations.get(conversation) ?? "{}");
    const verdict = judge(rendered, wanted);
    own[verdict]++;
    if (verdict === "different") differences.push(`  ${conversation}: ${difference(rendered, wanted)}`);
    else if (rendered.type !== "text") differences.push(`  ${conversation}: ${rendered.type}: ${rendered.message}`);
  }
  console.log(`${name}: ${own.equal} equal, ${own.refused} refused, ${own.different} different`);
  for (const line of differences) console.log(line);
  for (const verdict of ["equal", "refused", "different"] as const) count[verdict] += own[verdict];
}
console.log(`${count.equal} equal, ${count.refused} refused, ${count.different} different`);
process.exit(count.different > 0 ? 1 : 0);

function renderConversation(jinja: Jinja, template: Parameters<Jinja["render"]>[0], conversation: string): Rendered {
  const { add_generation_prompt, continue_final_message } = Asked.parse(JSON.parse(conversation));
  const members = memberTexts(conversation);
  return jinja.render(
    template,
    {
      messages: members.get("messages") ?? "[]",
      tools: members.get("tools") ?? null,
      variables: Object.fromEntries(memberTexts(members.get("variables") ?? "{}")),
      addGenerationPrompt: add_generation_prompt ?? true,
      continueFinalMessage: continue_final_message ?? false,
    },
    LONGEST,
  );
}

/** What the template raises itself must come as its own sentence; what else is refused, with any reason. */
function judge(rendered: Rendered, wanted: z.infer<typeof Expected>): keyof typeof count {
  if ("text" in wanted) {
    if (rendered.type !== "text") return "refused";
    return rendered.text === wanted.text ? "equal" : "different";
  }
  if (rendered.type === "text") return "different";
  return wanted.refused === "TemplateError" && rendered.type === "failed" ? "different" : "refused";
}

function difference(rendered: Rendered, wanted: z.infer<typeof Expected>): string {
  const found = rendered.type === "text" ? rendered.text : `${rendered.type}: ${rendered.message}`;
  return `${JSON.stringify(found)} instead of ${JSON.stringify("text" in wanted ? wanted.text : wanted)}`;
}
