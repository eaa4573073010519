import { z } from "zod";
import type { Conversation } from "../../models/chat/chat-template.js";
import type { Checked, Rendered } from "../../models/chat/jinja.js";
import type { ChatTemplate } from "../../models/model-source.js";
import type { TokenBytesData } from "../../models/tokenizer/token-bytes.js";
import type { LibraryLimits } from "./watch.js";

/** To the process: first `open`, then jobs, of which several may be on their way. */
export type PromptOrder = OpenOrder | { readonly type: "job"; readonly job: number; readonly order: JobOrder };

export interface OpenOrder {
  readonly type: "open";
  /** Path of the model. */
  readonly path: string;
  /** Number of ids that the model knows. */
  readonly vocabSize: number;
  readonly limits: LibraryLimits;
}

/** What a process of prompts does: every job stands for itself, so that it can be sent again to a new process. */
export type JobOrder = { readonly type: "encode"; readonly text: string } | RenderOrder;

/** What to render comes with the template, so that a new process needs to know nothing. */
export interface RenderOrder {
  readonly type: "render";
  readonly template: ChatTemplate;
  /** null: the template is only compiled. */
  readonly conversation: Conversation | null;
  /** Characters that the text may have. */
  readonly longest: number;
  /** Milliseconds that it may take. */
  readonly ms: number;
}
export type TemplateResult = Checked | Rendered;

const Tokens = z.custom<TokenBytesData>((value) => typeof value === "object" && value !== null);
const Ids = z.instanceof(Int32Array);

export const Opened = z.discriminatedUnion("type", [
  /** `digest` is that of the tokenizer's file. */
  z.object({ type: z.literal("ready"), tokens: Tokens, digest: z.string() }),
  z.object({ type: z.literal("absent") }),
  z.object({ type: z.literal("unusable"), file: z.string(), reason: z.string() }),
]);
export type Opened = z.infer<typeof Opened>;

export const JobResult = z.discriminatedUnion("type", [
  z.object({ type: z.literal("encoded"), ids: Ids }),
  /** The text has no ids; the reason follows "the text". */
  z.object({ type: z.literal("unencodable"), reason: z.string() }),
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({ type: z.literal("accepted") }),
  z.object({ type: z.enum(["refused", "unsupported", "exhausted", "failed"]), message: z.string() }),
]);
export type JobResult = z.infer<typeof JobResult>;

/** From the process. */
export const PromptReport = z.union([Opened, z.object({ type: z.literal("done"), job: z.int(), result: JobResult })]);
export type PromptReport = z.infer<typeof PromptReport>;
