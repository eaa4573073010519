import { Presets, SingleBar } from "cli-progress";
import type { PullObserver } from "../../models/hub/pull.js";
import type { RemoteFile } from "../../models/hub/repository.js";

/** Shows how the files of a model come: a bar for each on a terminal; elsewhere a line for each that is there. */
export function pullProgress(stream: NodeJS.WriteStream): PullObserver & { readonly stop: () => void } {
  const report = (file: RemoteFile, fetched: number): void => {
    const how = fetched === 0 ? "was there" : fetched < file.bytes ? `the last ${size(fetched)} fetched` : "fetched";
    stream.write(`${file.path}  ${size(file.bytes)}, ${how}\n`);
  };
  const onWait = (sentence: string) => void stream.write(`${sentence}\n`);
  return stream.isTTY ? { ...bars(stream, report), onWait } : { onDone: report, onWait, stop: () => {} };
}

function bars(stream: NodeJS.WriteStream, report: (file: RemoteFile, fetched: number) => void) {
  let bar: SingleBar | undefined;
  const stop = (): void => {
    bar?.stop();
    bar = undefined;
  };
  return {
    stop,
    onBytes(file: RemoteFile, bytes: number): void {
      if (bar === undefined) {
        const format = `${file.path.replaceAll(/[{}]/g, "_")} [{bar}] {percentage} % of ${size(file.bytes)}, {eta_formatted} left`;
        bar = new SingleBar({ format, stream, hideCursor: true, clearOnComplete: true }, Presets.rect);
        bar.start(file.bytes, bytes);
      }
      bar.update(bytes);
    },
    onDone(file: RemoteFile, fetched: number): void {
      stop();
      report(file, fetched);
    },
  };
}

/** Bytes as a person reads them. */
export const size = (bytes: number): string =>
  bytes < 1e6
    ? `${(bytes / 1e3).toFixed(1)} kB`
    : bytes < 1e9
      ? `${(bytes / 1e6).toFixed(1)} MB`
      : `${(bytes / 1e9).toFixed(2)} GB`;
