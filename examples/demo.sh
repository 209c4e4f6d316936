#!/usr/bin/env bash
# What `make demo` runs: the quickstart from manifests to a spent key, on a free port and in a temporary directory.
# LLM_PROXY_BIN=<binary> uses that one instead of building it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'demo failed: %s\n' "$*" >&2; [ -s "${work:-}/log" ] && tail -n 20 "$work/log" >&2; exit 1; }

if [ -z "${LLM_PROXY_BIN:-}" ]; then
    say "Building llm-proxy (a first build takes minutes, the next ones seconds)"
    cargo build --package llm-proxy --bin llm-proxy
    target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    LLM_PROXY_BIN=$target/debug/llm-proxy
fi

work=$(mktemp -d)
server=
clean_up() {
    trap - EXIT
    trap '' INT TERM
    if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then
        for _ in $(seq 100); do kill -0 "$server" 2>/dev/null || break; sleep 0.05; done
        kill -KILL "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Serving examples/quickstart: a fleet, a project, a token of 5 requests"
env -u LISTEN_ADDR -u LOG_FILE "$LLM_PROXY_BIN" standalone -f examples/quickstart --data-dir "$work/data" --listen 127.0.0.1:0 --drain-grace 2s >"$work/out" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
    grep -q '\.env$' "$work/out" && break
    kill -0 "$server" 2>/dev/null || fail "it did not start"
    sleep 0.05
done
grep -q '\.env$' "$work/out" || fail "it was not ready within 5 s"
cat "$work/out"
# shellcheck disable=SC1090 # the issued key: OPENAI_API_KEY and OPENAI_BASE_URL
. "$(grep -m 1 '\.env$' "$work/out")"

ask() { # text, further curl arguments
    local text=$1
    shift
    curl --silent --no-buffer --max-time 10 "$@" "$OPENAI_BASE_URL/chat/completions" \
        -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' \
        -d "{\"model\":\"echo-20ms\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"$text\"}]}"
}

say "Request 1: a streamed chat completion with the issued key"
ask "A key that withers." --fail || fail "the stream did not come through"

say "Requests 2, 3 …: until the limit is spent"
status=000
for number in $(seq 2 20); do
    status=$(ask "again" --output "$work/answer" --write-out '%{http_code}') || fail "request $number got no answer"
    printf 'request %s: %s\n' "$number" "$status"
    [ "$status" = 200 ] || break
done
[ "$status" = 429 ] || fail "expected 429 at the limit, got $status"
cat "$work/answer"
echo

say "Usage: llm-proxy status"
for _ in $(seq 50); do
    "$LLM_PROXY_BIN" status --data-dir "$work/data" -o json >"$work/status" || true
    grep -q '"requests": 5' "$work/status" && grep -q '"used": 5' "$work/status" && break
    sleep 0.1
done
grep -q '"requests": 5' "$work/status" || fail "the usage did not arrive"
"$LLM_PROXY_BIN" status --data-dir "$work/data" || true

kill -TERM "$server"
wait "$server" || fail "it did not end cleanly"
server=

say "Go on by hand (paste into bash, here):"
cat <<BY_HAND
# --- begin: by hand
data=\$(mktemp -d)
$LLM_PROXY_BIN standalone -f examples/quickstart --data-dir "\$data" --listen 127.0.0.1:0 &
until [ -e "\$data/secrets/default.hello.env" ]; do sleep 0.1; done
. "\$data/secrets/default.hello.env"
curl -sN "\$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer \$OPENAI_API_KEY" -H 'Content-Type: application/json' \\
  -d '{"model":"echo-20ms","stream":true,"messages":[{"role":"user","content":"Hello, proxy"}]}'
$LLM_PROXY_BIN status --data-dir "\$data"
kill \$!; wait \$!; rm -r "\$data"
# --- end: by hand
BY_HAND
