#!/bin/sh
# Runs model.tflite on a board with 64-bit ARM Linux, through ssh, and compares its output with the expected one.
# shellcheck disable=SC2029  # $folder is meant to be expanded here
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

usage() {
    echo "usage: run_lce_on_pi.sh [-t THREADS] [-i PICTURE] [USER@]HOST [LCE_BENCHMARK_MODEL]"
    echo "Needs ssh and scp; a key (ssh-copy-id) saves typing the password four times."
}

read_options "$@"
shift $((OPTIND - 1))
host=${1:-}
case $host in
    '' | -*)
        usage >&2
        exit 2
        ;;
esac
program=${2:-$here/lce_benchmark_model_aarch64}
folder=bnn_tf_kit
log=$here/pi.log
output=$here/pi_output.bin

check_program "$program"
for tool in ssh scp; do
    command -v "$tool" >/dev/null || fail "there is no $tool; install an OpenSSH client"
done
prepare_input

machine=$(ssh "$host" "mkdir -p $folder && rm -f $folder/output.bin && uname -m && getconf LONG_BIT") ||
    fail "cannot log in to $host, or cannot make the folder $folder there"
[ "$(echo "$machine" | tr '\n' ' ')" = 'aarch64 64 ' ] ||
    fail "$host is no 64-bit ARM Linux but '$(echo "$machine" | tr '\n' ' ')'; install the 64-bit Raspberry Pi OS"

rm -f "$output"
# scp names what it copies after the source, and the names on the board are fixed.
for pair in "$program:lce_benchmark_model" "$here/model.tflite:model.tflite" "$input:input.bin"; do
    scp -q "${pair%:*}" "$host:$folder/${pair##*:}" || fail "cannot copy ${pair%:*} to $host"
done
ssh "$host" "cd $folder && chmod 755 lce_benchmark_model && $(benchmark_command)" >"$log" 2>&1 || {
    cat "$log" >&2
    fail "the benchmark failed on $host (its messages stand above and in $log)"
}
scp -q "$host:$folder/output.bin" "$output" || fail "no output on $host (see $log); it needs LCE 0.11 or newer"
report "$log" "$output"
