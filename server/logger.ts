import { type Logger, pino } from "pino";
import pretty from "pino-pretty";

/** Logs to stderr: lines for people on a terminal, JSON lines elsewhere. */
export function createLogger(level: string): Logger {
  return process.stderr.isTTY
    ? pino(
        { level },
        pretty({ destination: 2, sync: true, ignore: "pid,hostname", singleLine: true, translateTime: "SYS:HH:MM:ss" }),
      )
    : pino({ level }, pino.destination({ dest: 2, sync: true }));
}
