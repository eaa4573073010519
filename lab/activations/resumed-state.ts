import type * as z from "zod";
import type { JsonObject } from "../../models/model-file.js";
import { SetupError } from "../../runtime/contract/errors.js";

/** The state that a run is resumed with; null: it begins. @throws SetupError where it is none of this schema */
export function resumedState<State>(schema: z.ZodType<State>, resumed: JsonObject | undefined): State | null {
  if (resumed === undefined) return null;
  const state = schema.safeParse(resumed);
  if (state.success) return state.data;
  throw new SetupError("the checkpoint does not say where in the text the run was: it cannot be resumed");
}
