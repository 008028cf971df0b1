#!/usr/bin/env bash
# Submits the launcher of a R kernel to Spark.
#
#   SPARK_HOME     Spark, whose bin/spark-submit is run
#   SPARK_OPTS     its options; variables such as ${KERNEL_ID:-none} are filled in, commands are not run
#   LAUNCH_OPTS    options of the launcher, treated alike
#   arguments      those of kernel.json's argv: the connection file and the launcher's options
#
# With ELYRA_IMPERSONATION_ENABLED=True the application runs as KERNEL_USERNAME.

here=$(cd -P -- "${BASH_SOURCE[0]%/*}" && pwd) || exit
source "$here/words.sh"
source "$here/submit.sh"

submit "$here/../scripts/launch_IRkernel.py" "$SPARK_OPTS" "$LAUNCH_OPTS" "$@"
