import * as z from "zod";

type Context = {
  issues: { push(issue: { code: "custom"; message: string; input: unknown; path: PropertyKey[] }): void };
};

const refuse = (ctx: Context, message: string, path: PropertyKey[]): void =>
  void ctx.issues.push({ code: "custom", message, input: undefined, path });

/** The field of a part that has its text, by the part's type. */
const TEXT_FIELDS = new Map([
  ["text", "text"],
  ["refusal", "refusal"],
]);

/** An array that is read up to its first wrong entry: zod tells of each, which takes 800 MB for a million of them. */
const listOf = (entry: z.ZodType) =>
  z.array(z.unknown()).superRefine((entries, ctx) => {
    for (const [place, each] of entries.entries()) {
      const issue = entry.safeParse(each).error?.issues[0];
      if (issue !== undefined) return refuse(ctx, issue.message, [place, ...issue.path]);
    }
  });

/** Text, or parts of text, or null: typed clients send it for none. */
const Content = z.unknown().superRefine((content, ctx) => {
  if (content === null || content === undefined || typeof content === "string") return;
  const parts = z.array(z.unknown()).safeParse(content).data;
  if (parts === undefined) return refuse(ctx, "expected a string or an array of text parts", []);
  for (const [place, part] of parts.entries()) {
    const fields = Part.safeParse(part).data;
    if (typeof fields?.type !== "string") return refuse(ctx, "expected a part with a type", [place]);
    const field = TEXT_FIELDS.get(fields.type);
    if (field === undefined)
      return refuse(ctx, `this server reads text only, no ${JSON.stringify(fields.type.slice(0, 40))}`, [
        place,
        "type",
      ]);
    if (typeof fields[field] !== "string") return refuse(ctx, "expected a string", [place, field]);
  }
});
const Part = z.record(z.string(), z.unknown());

/** The JSON text of what a function was called with; "" stands for nothing. */
const Arguments = z.string().refine(
  (text) => {
    if (text.trim() === "") return true;
    try {
      JSON.parse(text);
      return true;
    } catch {
      return false;
    }
  },
  { error: "expected JSON" },
);

const ToolCall = z.object({
  id: z.string().nullish(),
  type: z.literal("function").optional(),
  function: z.object({ name: z.string(), arguments: Arguments }),
});

const Message = z
  .object({
    role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]),
    content: Content.optional(),
    name: z.string().nullish(),
    tool_call_id: z.string().nullish(),
    tool_calls: listOf(ToolCall).nullish(),
    function_call: z.null({ error: "replaced by tool_calls" }).optional(),
    audio: z.null({ error: "this server reads text only" }).optional(),
  })
  .check(({ value, issues }) => {
    const ctx = { issues };
    if (value.tool_calls?.length && value.role !== "assistant")
      refuse(ctx, "only an assistant calls tools", ["tool_calls"]);
    if (value.content === undefined && !value.tool_calls?.length)
      refuse(ctx, "expected a string or an array of text parts, received nothing", ["content"]);
  });

/** What `messages` of a chat request must be. Templates read them as they were sent, with fields that are not known here. */
export const ChatMessages = listOf(Message).refine((messages) => messages.length > 0, {
  error: "expected at least one message",
});
