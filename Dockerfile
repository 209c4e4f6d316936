# The one image: operator, proxy, server and command line are the same binary.
# Built by any engine: `make image`, or `docker build .`; for another architecture `docker buildx build --platform linux/arm64 .`
# What runs holds the binary, the shared libraries that it was linked with, and CA certificates: no shell, no package manager, no user but 65532.
FROM rust:1-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package llm-proxy && install -D target/release/llm-proxy /root-of-image/usr/bin/llm-proxy
# The loader and the libraries, at the paths where the binary looks for them.
RUN ldd /root-of-image/usr/bin/llm-proxy | grep -o '/[^ ]*' | sort -u | xargs -I{} install -D {} /root-of-image{} && \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ca-certificates.crt && \
    printf 'llm-proxy:x:65532:65532::/nonexistent:/nonexistent\n' > /root-of-image/etc/passwd && \
    install -d -m 1777 /root-of-image/tmp

FROM scratch
COPY --from=build /root-of-image/ /
ENV PATH=/usr/bin:/bin
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/usr/bin/llm-proxy"]
CMD ["--help"]
LABEL org.opencontainers.image.title="llm-proxy" \
      org.opencontainers.image.description="Operator and proxy of llm-proxy: LLM providers behind short-lived virtual keys" \
      org.opencontainers.image.licenses="Apache-2.0"
