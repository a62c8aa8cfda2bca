# shellcheck shell=sh
# What run_lce_on_android.sh and run_lce_on_pi.sh share. They set $here, the folder of the kit, and source this file.

: "${here:?}"
python=${PYTHON:-python3}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Options: -t THREADS, -i PICTURE, -h; sets $threads and $picture.
read_options() {
    threads=1
    picture=
    while getopts t:i:h option; do
        case $option in
            t) threads=$OPTARG ;;
            i) picture=$OPTARG ;;
            h)
                usage
                exit 0
                ;;
            *)
                usage >&2
                exit 2
                ;;
        esac
    done
    case $threads in
        '' | *[!0-9]* | 0*) fail "-t takes a number of threads, not '$threads'" ;;
    esac
}

# Dies unless $1 is an ELF program for 64-bit ARM (machine 0xb7).
check_program() {
    [ -f "$1" ] || fail "there is no benchmark program at $1; README.md says where to get or how to build it"
    set -- "$1" "$(od -An -tx1 -N4 "$1" | tr -d ' \n')" "$(od -An -tx1 -j18 -N2 "$1" | tr -d ' \n')"
    [ "$2" = 7f454c46 ] || fail "$1 is no Linux or Android program"
    [ "$3" = b700 ] || fail "$1 is not built for 64-bit ARM; README.md says how to build it"
}

# Sets $input, the file to feed: the reference, or the picture of -i.
prepare_input() {
    command -v "$python" >/dev/null || fail "there is no $python; install Python 3 with NumPy, or set PYTHON"
    input=$here/reference_input.bin
    if [ -n "$picture" ]; then
        input=$here/picture_input.bin
        "$python" "$here/preprocess.py" "$picture" -o "$input" || exit 1
    fi
}

# Prints the command to run in the folder on the device.
benchmark_command() {
    printf './lce_benchmark_model --graph=model.tflite --num_threads=%s' "$threads"
    printf ' --input_layer=input --input_layer_shape=%s' "$(cat "$here/input_shape.txt")"
    printf ' --input_layer_value_files=input:input.bin --output_filepath=output.bin'
}

# Shows the timing in the log $1 and judges the output $2.
report() {
    [ -s "$2" ] || fail "the benchmark program wrote no output (see $1); it needs LCE 0.11 or newer"
    grep -o 'Inference timings in us.*' "$1" || echo "no timing in $1"
    if [ -n "$picture" ]; then
        "$python" "$here/compare.py" --show "$2"
    else
        "$python" "$here/compare.py" "$2"
    fi
}
