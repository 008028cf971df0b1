#!/usr/bin/env bash
# Submits the launcher of a Python kernel to Spark.
#
#   SPARK_HOME     Spark, whose bin/spark-submit is run
#   SPARK_OPTS     its options; variables such as ${KERNEL_ID:-none} are filled in, commands are not run
#   LAUNCH_OPTS    options of the launcher, treated alike
#   arguments      those of kernel.json's argv: the connection file and the launcher's options
#
# With ELYRA_IMPERSONATION_ENABLED=True the application runs as KERNEL_USERNAME.

here=$(cd -P -- "${BASH_SOURCE[0]%/*}" && pwd) || exit
source "$here/words.sh"

is_true() {
    case $1 in
    1 | [Tt]rue | TRUE | [Yy]es | YES | [Oo]n | ON) return 0 ;;
    *) return 1 ;;
    esac
}

[[ -n $SPARK_HOME ]] ||
    fail "SPARK_HOME is not set: set it in kernel.json's env (jupyter elyra install --spark-home=DIR) or for the server" 78
[[ -x $SPARK_HOME/bin/spark-submit ]] ||
    fail "$SPARK_HOME/bin/spark-submit does not exist or cannot be run: set SPARK_HOME to the directory of a Spark" 78
if [[ -n $JAVA_HOME ]]; then
    [[ -x $JAVA_HOME/bin/java ]] ||
        fail "$JAVA_HOME/bin/java does not exist or cannot be run: set JAVA_HOME to the directory of a Java, or unset it" 78
else
    type -P java >/dev/null || fail "no java in PATH ($PATH): install a Java, or set JAVA_HOME for the server" 78
fi

WORDS=()
split "$SPARK_OPTS"
spark=("${WORDS[@]}")
WORDS=()
split "$LAUNCH_OPTS"
launch=("${WORDS[@]}")

# YARN writes them into a shell script, and makes variables of {{NAME}} there, which is more than text.
for word in "${launch[@]}" "$@"; do
    case $word in
    *'{{'* | *'}}'* | *'<LOG_DIR>'* | *'<CPS>'*) fail "the launcher's options contain \"$word\", which YARN would replace" ;;
    esac
done

# Last, so that no option before it names another user.
if is_true "${ELYRA_IMPERSONATION_ENABLED:-$EG_IMPERSONATION_ENABLED}"; then
    [[ -n $KERNEL_USERNAME ]] || fail "impersonation is enabled, but the request named no KERNEL_USERNAME"
    spark+=(--proxy-user "$KERNEL_USERNAME")
fi

exec "$SPARK_HOME/bin/spark-submit" "${spark[@]}" \
    "$here/../scripts/launch_ipykernel.py" "${launch[@]}" "$@"
