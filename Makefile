# What people and CI run. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long node bench image lint install

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## The quickstart in 10 s: build, serve, stream, spend a key, show the usage, clean up
	@bash examples/demo.sh

# `cargo test` builds the binary before it runs any test; naming it spares the stories a build of their own with other features.
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

# Tests run on a PostgreSQL server: the one that DATABASE_URL names (as a superuser), or a throw-away one that lives as long as they run.
WITH_POSTGRES := cargo run --quiet --locked --package testkit --bin with-postgres --

# The control plane that the operator is tested on, built from Go modules: minutes the first time, a look at the cache afterwards.
.PHONY: control-plane
control-plane:
	@cargo run --quiet --locked --package testkit --bin control-plane -- build

test: control-plane ## Every test, on SQLite and PostgreSQL; waits over 20 s are left to test-long
	LLM_PROXY_BIN=$(TARGET)/debug/llm-proxy $(WITH_POSTGRES) cargo test --workspace --locked

test-long: control-plane ## Every test, with the long variants
	LLM_PROXY_LONG=1 LLM_PROXY_BIN=$(TARGET)/debug/llm-proxy $(WITH_POSTGRES) cargo test --workspace --locked

# Debian: containerd runc containernetworking-plugins iptables iproute2 conntrack kmod procps.
node: control-plane ## The charts, and the first day on a real node (root; containerd and friends; kubelet, Helm … are built once, 10 min)
	cargo build --locked --package llm-proxy
	LLM_PROXY_BIN=$(TARGET)/debug/llm-proxy $(WITH_POSTGRES) cargo test --locked --package testkit --test node -- --nocapture

bench: ## Stream timing; CPU, syscalls, instructions and memory beside nginx (release build; needs nginx, strace, valgrind)
	@for tool in nginx strace valgrind; do command -v $$tool >/dev/null || { echo "make bench needs $$tool: apt-get install nginx-light strace valgrind"; exit 1; }; done
	cargo build --release --locked --package llm-proxy
	LLM_PROXY_BIN=$(TARGET)/release/llm-proxy cargo run --release --locked --package testkit --bin bench

lint: cargo-deny ## Formatting, clippy with warnings as errors, licences, sources and duplicate versions of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo deny --locked check bans licenses sources

.PHONY: cargo-deny
cargo-deny:
	@cargo deny --version >/dev/null 2>&1 || { echo "installing cargo-deny, once (some minutes)"; cargo install cargo-deny --locked --debug; }

# The tag is the workspace's version. Without a container engine the release binary is packed together with its libraries.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

image: ## Build the container image: by docker or podman where one runs, else as an archive for `ctr images import`
	@for engine in docker podman; do \
	    $$engine info >/dev/null 2>&1 || continue; \
	    $$engine build --tag llm-proxy:$(VERSION) . && $$engine image inspect --format 'llm-proxy:$(VERSION) {{.Size}} bytes' llm-proxy:$(VERSION); \
	    exit; \
	done; \
	cargo build --release --locked --package llm-proxy && \
	cargo run --quiet --locked --package testkit --bin image -- $(TARGET)/release/llm-proxy $(TARGET)/llm-proxy-$(VERSION).tar llm-proxy:$(VERSION)

# Where `cargo install` puts binaries.
BIN := $(or $(CARGO_INSTALL_ROOT),$(CARGO_HOME),$(HOME)/.cargo)/bin

install: ## Put llm-proxy, also as kubectl's plugin, on PATH (where cargo installs: usually ~/.cargo/bin)
	cargo install --path cli --locked
	ln -sf llm-proxy $(BIN)/kubectl-llm_proxy
	ln -sf llm-proxy $(BIN)/kubectl_complete-llm_proxy
