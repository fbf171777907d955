# Builds the image of the BuildKit frontend: one static binary.
FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked \
    --package minimage-frontend --target x86_64-unknown-linux-gnu

FROM scratch
COPY --from=build /src/target/x86_64-unknown-linux-gnu/release/minimage-frontend /minimage-frontend
ENTRYPOINT ["/minimage-frontend"]
