#!/bin/sh
# A compiler that lets libFuzzer see which branches are taken, for RUSTC_WORKSPACE_WRAPPER: only this workspace's crates
# are compiled anew, and the flags are stable ones. Arithmetic that overflows panics, as in a debug build.
exec "$@" \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions=on -Coverflow-checks=on
