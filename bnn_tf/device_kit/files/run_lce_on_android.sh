#!/bin/sh
# Runs model.tflite on a 64-bit Android phone and compares its output with the expected one.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

usage() {
    echo "usage: run_lce_on_android.sh [-t THREADS] [-i PICTURE] [LCE_BENCHMARK_MODEL]"
    echo "Needs adb and a phone with USB debugging; of several phones, ANDROID_SERIAL names one."
}

read_options "$@"
shift $((OPTIND - 1))
program=${1:-$here/lce_benchmark_model_android_arm64}
folder=/data/local/tmp/bnn_tf_kit
log=$here/android.log
output=$here/android_output.bin

check_program "$program"
command -v adb >/dev/null || fail "there is no adb; install Android's platform tools"
state=$(adb get-state 2>&1) || fail "no phone answers ($state); connect one, allow USB debugging, set ANDROID_SERIAL"
[ "$state" = device ] || fail "the phone is not ready: $state"
abis=$(adb shell getprop ro.product.cpu.abilist64 | tr -d '\r')
case $abis in
    *arm64-v8a*) ;;
    *) fail "the phone is no 64-bit ARM (arm64-v8a) device but '$abis'" ;;
esac
prepare_input

rm -f "$output"
adb shell "rm -rf $folder && mkdir -p $folder" || fail "cannot make $folder on the phone"
for pair in "$program:lce_benchmark_model" "$here/model.tflite:model.tflite" "$input:input.bin"; do
    adb push "${pair%:*}" "$folder/${pair##*:}" >/dev/null || fail "cannot push ${pair%:*} to the phone"
done
adb shell "cd $folder && chmod 755 lce_benchmark_model && $(benchmark_command)" >"$log" 2>&1 || {
    cat "$log" >&2
    fail "the benchmark failed on the phone (its messages stand above and in $log)"
}
adb pull "$folder/output.bin" "$output" >/dev/null || fail "no output on the phone (see $log); it needs LCE 0.11 or newer"
report "$log" "$output"
