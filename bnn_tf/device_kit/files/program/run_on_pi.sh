#!/bin/sh
# Compiles net.c on a board, through ssh, classifies the reference picture there and measures the time.
# The board needs a C compiler and nothing else: no LCE, no Python, a 32-bit system is enough.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
usage() {
    echo "usage: run_on_pi.sh [-t THREADS] [USER@]HOST" >&2
    exit 2
}
threads=1
while getopts t: option; do
    case $option in
        t) threads=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
host=${1:-}
case $threads in '' | 0 | *[!0-9]*) usage ;; esac
case $host in '' | -*) usage ;; esac
ssh "$host" 'mkdir -p bnn_tf_kit'
scp -q "$here/net.c" "$here/reference_image.ppm" "$host:bnn_tf_kit"
# Some compilers for ARM know -mcpu=native only, some neither; a 32-bit one needs to be told of NEON.
ssh "$host" "cd bnn_tf_kit && options='-O3 -ffp-contract=off -DNET_MAIN -DNET_THREADS=$threads -pthread' && {
    cc \$options -march=native -o net net.c -lm 2>/dev/null ||
    cc \$options -mcpu=native -o net net.c -lm 2>/dev/null ||
    cc \$options -o net net.c -lm
} && ./net reference_image.ppm && ./net -b"
echo "expected: expected.json in $here"
