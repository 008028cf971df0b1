#!/usr/bin/env bash
# Starts the launcher of an R kernel on this host.
#
#   PYSPARK_PYTHON  the Python of the launcher; python3 if it is not set
#   LAUNCH_OPTS     options of the launcher; variables such as ${KERNEL_USERNAME:-nobody} are filled in
#   arguments       those of kernel.json's argv: the connection file and the launcher's options

here=${BASH_SOURCE[0]%/*}
WORDS=()
if [[ -n $LAUNCH_OPTS ]]; then
    source "$here/words.sh"
    split "$LAUNCH_OPTS"
fi
python=${PYSPARK_PYTHON:-python3}
type -P "$python" >/dev/null || {
    echo "${0##*/}: no $python: set PYSPARK_PYTHON in kernel.json's env (jupyter elyra install --python=FILE)" >&2
    exit 78
}
exec "$python" "$here/../scripts/launch_IRkernel.py" "${WORDS[@]}" "$@"
