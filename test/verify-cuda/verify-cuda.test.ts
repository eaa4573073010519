import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { runScript } from "../loadtest/run-script.js";

const MAIN = join("dist", "test", "verify-cuda", "main.js");
