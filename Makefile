# What people and CI run. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long bench lint install

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## The quickstart in 10 s: build, serve, stream, spend a key, show the usage, clean up
	@bash examples/demo.sh

test: ## Every test that waits less than 20 s; CI runs this
	cargo test --workspace --locked

test-long: ## The tests that wait longer
	LLM_PROXY_TEST_LONG=1 cargo test --workspace --locked -- long_

bench: ## Stream timing, and CPU, memory and syscalls beside nginx (release build)
	cargo bench --package testkit --locked

lint: cargo-deny ## Formatting, clippy with warnings as errors, licences, sources and duplicate versions of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --locked check bans licenses sources

.PHONY: cargo-deny
cargo-deny:
	@cargo deny --version >/dev/null 2>&1 || { echo "installing cargo-deny, once (some minutes)"; cargo install cargo-deny --locked; }

install: ## Put llm-proxy on PATH (where cargo installs: usually ~/.cargo/bin)
	cargo install --path cli --locked
