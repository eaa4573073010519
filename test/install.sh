#!/usr/bin/env bash
# By hand, not in CI: installs a fresh copy of the repository where CUDA is installed (a fake nvcc) and no host but the npm
# registry can be reached, as it is and with --ignore-scripts, and lets the embedded model speak. The control, without our
# .npmrc, must fail: else nothing is shown.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/cuda"
printf '#!/bin/sh\necho "Cuda compilation tools, release 12.8, V12.8.93"\n' >"$work/cuda/nvcc"
chmod +x "$work/cuda/nvcc"

registry=$(node -p "new URL('$(npm config get registry)').hostname")
cat >"$work/registry-only.cjs" <<JS
const dns = require("node:dns");
const { appendFileSync } = require("node:fs");
const lookup = dns.lookup;
const proxies = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].flatMap((name) => process.env[name] ?? []);
const reachable = new Set(["$registry", "localhost", "127.0.0.1", ...proxies.map((proxy) => new URL(proxy).hostname)]);
dns.lookup = (host, options, callback = options) => {
  if (reachable.has(host)) return lookup(host, options, callback);
  appendFileSync("$work/blocked", host + "\n");
  process.nextTick(callback, Object.assign(new Error("getaddrinfo ENOTFOUND " + host), { code: "ENOTFOUND" }));
};
JS

fresh_copy() {
  rm -rf "$work/copy" "$work/blocked" && mkdir "$work/copy"
  git -C "$root" ls-files -z -co --exclude-standard | (cd "$root" && xargs -0 cp --parents -t "$work/copy")
  cd "$work/copy"
}

# npm_config_* of an npm that runs this script would hide what our .npmrc does.
install() {
  env -u npm_config_onnxruntime_node_install PATH="$work/cuda:$PATH" CUDA_VERSION=12.8 CUDA_HOME="$work/cuda" \
    NODE_OPTIONS="--require=$work/registry-only.cjs" npm ci "$@" >"$work/log" 2>&1
}

speaks() {
  npm run --silent build
  LAMBDATAP_CACHE="$work/cache" node dist/server/cli/main.js generate "Once upon a time" --max-tokens 5 --seed 1 2>/dev/null
}

for flags in "" "--ignore-scripts"; do
  fresh_copy
  install $flags || { cat "$work/log"; echo "FAILED: npm ci $flags"; exit 1; }
  echo "ok: npm ci $flags; hosts asked for beside the registry: $(sort -u "$work/blocked" 2>/dev/null | tr '\n' ' ')"
  speaks
done

fresh_copy
rm .npmrc
if install; then
  echo "FAILED: the control installs too, so nothing is shown"
  exit 1
fi
echo "ok: without .npmrc it fails: $(grep -o 'ENOTFOUND [a-z.]*' "$work/log" | sort -u | tr '\n' ' ')"
