import type { Command } from "../command.js";
import { evaluation } from "./eval.js";
import { frontier } from "./frontier.js";
import { probe } from "./probe.js";
import { train } from "./train.js";

/** The commands of the lab; each imports what it needs itself. */
export const LAB_COMMANDS: Readonly<Record<string, Command>> = {
  "lab train": train,
  "lab eval": evaluation,
  "lab frontier": frontier,
  "lab probe": probe,
};
