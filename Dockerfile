# Two stages: build with the whole toolchain, run with next to nothing.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# The base image fixes Debian's release, which changes a package for its security only.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock askama.toml ./
COPY crates crates
COPY src src
# The manifest names tests and benchmarks, which the image does without. What is compiled stays in the builder's cache.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    mkdir -p tests/it benches/load benches/pure benches/looks \
    && for file in tests/it benches/load benches/pure benches/looks; do echo 'fn main() {}' > "$file/main.rs"; done \
    && cargo build --profile dist --locked --bin basiq-relay \
    && cp target/dist/basiq-relay /usr/local/bin/
RUN mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="basiq-relay" \
      org.opencontainers.image.description="Watches Basiq jobs and posts one signed webhook for each outcome" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /usr/local/bin/basiq-relay /usr/local/bin/basiq-relay
COPY --from=build --chown=65532:65532 /data /data
ENV RELAY_LISTEN=0.0.0.0:8080 \
    RELAY_LOG_FORMAT=json
# where basiq-relay.db is made, unless RELAY_DATABASE_URL says otherwise
WORKDIR /data
VOLUME /data
EXPOSE 8080
# The number of nonroot: Kubernetes checks `runAsNonRoot` by number, for it does not read the image's names.
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["/usr/local/bin/basiq-relay", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/basiq-relay"]
CMD ["serve"]
