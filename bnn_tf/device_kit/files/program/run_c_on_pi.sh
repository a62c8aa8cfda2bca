#!/bin/sh
# Compiles net.c on a board, through ssh, classifies the reference picture there and measures the time.
# The board needs a C compiler and nothing else: no LCE, no Python, a 32-bit system is enough.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
host=${1:-}
case $host in
    '' | -*)
        echo "usage: run_c_on_pi.sh [USER@]HOST" >&2
        exit 2
        ;;
esac
ssh "$host" 'mkdir -p bnn_tf_kit'
scp -q "$here/net.c" "$here/reference_image.ppm" "$host:bnn_tf_kit"
ssh "$host" 'cd bnn_tf_kit && cc -O3 -march=native -DNET_MAIN -o net net.c -lm && ./net reference_image.ppm && ./net -b'
echo "expected: expected.json in $here"
