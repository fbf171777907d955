# Builds the image of the BuildKit frontend: one static binary.
FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# A target that is named, be it the host's own, keeps the flags from build scripts and macros, which cannot be static.
RUN host=$(rustc --print host-tuple) \
    && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --package minimage-frontend --target "$host" \
    && mv "target/$host/release/minimage-frontend" /

FROM scratch
COPY --from=build /minimage-frontend /
# What BuildKit asks a frontend's image: it needs no network, and knows these of its own features.
LABEL moby.buildkit.frontend.network.none="true" \
    moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring"
ENTRYPOINT ["/minimage-frontend"]
