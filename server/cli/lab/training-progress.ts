import { Presets, SingleBar } from "cli-progress";
import type { StepResult } from "../../../lab/step/training-step.js";
import type { TrainingPlan } from "../../../lab/train/training-plan.js";

/** Between two lines where there is no terminal, s. */
const SECONDS = 15;

/** Shows how a training goes: a bar on a terminal, elsewhere a line now and then. */
export class TrainingProgress {
  readonly #bar: SingleBar | null;
  readonly #began = performance.now();
  #lineAt = performance.now();

  constructor(
    readonly plan: TrainingPlan,
    readonly stream: NodeJS.WriteStream,
  ) {
    this.#bar = stream.isTTY
      ? new SingleBar({ format: "[{bar}] {line}", stream, hideCursor: true, barsize: 20 }, Presets.rect)
      : null;
    this.#bar?.start(plan.steps, plan.made, { line: "" });
  }

  show(step: number, result: StepResult): void {
    const { batch, dSae } = this.plan.config.step;
    const made = step - this.plan.made;
    const seconds = (performance.now() - this.#began) / 1000;
    const left = (seconds / made) * (this.plan.steps - step);
    const line = [
      `${million(step * batch)} of ${million(this.plan.config.tokens)} M tokens`,
      `${Math.round((made * batch) / seconds).toLocaleString("en")}/s`,
      `loss ${result.total.toPrecision(4)}`,
      `unexplained ${result.unexplained.toFixed(3)}`,
      `l0 ${result.l0.toFixed(1)}`,
      `dead ${((100 * result.dead) / dSae).toFixed(1)} %`,
      `${duration(left)} left`,
    ].join(", ");
    this.#bar?.update(step, { line });
    const isDue = performance.now() - this.#lineAt > SECONDS * 1000 || step === this.plan.steps;
    if (this.#bar !== null || !isDue) return;
    this.#lineAt = performance.now();
    this.stream.write(`step ${step} of ${this.plan.steps}: ${line}\n`);
  }

  stop(): void {
    this.#bar?.stop();
  }
}

const million = (tokens: number): string => (tokens / 1e6).toFixed(2);

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 90) return `${whole} s`;
  return whole < 5400 ? `${Math.round(whole / 60)} min` : `${(whole / 3600).toFixed(1)} h`;
}
