# Sourced by the run.sh of each language, after words.sh. submit SCRIPT SPARK_OPTIONS LAUNCH_OPTIONS ARGUMENT... becomes
# spark-submit with a launch script; check_spark and add_user are its parts, for who calls spark-submit otherwise.

is_true() {
    case $1 in
    1 | [Tt]rue | TRUE | [Yy]es | YES | [Oo]n | ON) return 0 ;;
    *) return 1 ;;
    esac
}

# Ends with what is missing, unless there are a Spark and a Java.
check_spark() {
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
}

# Adds the user of the launch to the array spark where impersonation is enabled. Call it last, so that no option before
# it names another user.
add_user() {
    if is_true "${ELYRA_IMPERSONATION_ENABLED:-$EG_IMPERSONATION_ENABLED}"; then
        [[ -n $KERNEL_USERNAME ]] || fail "impersonation is enabled, but the request named no KERNEL_USERNAME"
        spark+=(--proxy-user "$KERNEL_USERNAME")
    fi
}

# YARN writes the launcher's options into a shell script, and makes variables of {{NAME}} there, which is more than text.
check_launch_words() {
    local word
    for word in "$@"; do
        case $word in
        *'{{'* | *'}}'* | *'<LOG_DIR>'* | *'<CPS>'*) fail "the launcher's options contain \"$word\", which YARN would replace" ;;
        esac
    done
}

submit() {
    local script=$1 spark launch
    check_spark
    [[ -r $script ]] || fail "the launch script $script does not exist or cannot be read: install the kernelspec again" 78
    WORDS=()
    split "$2"
    spark=("${WORDS[@]}")
    WORDS=()
    split "$3"
    launch=("${WORDS[@]}")
    shift 3
    check_launch_words "${launch[@]}" "$@"
    add_user
    set -- "$SPARK_HOME/bin/spark-submit" "${spark[@]}" "$script" "${launch[@]}" "$@"
    # Where the server has a JVM ready that can do it; this becomes spark-submit if that is not so.
    [[ -z $ELYRA_SUBMITTER || ! -x $ELYRA_SUBMITTER_PYTHON ]] ||
        set -- "$ELYRA_SUBMITTER_PYTHON" -I -S "$ELYRA_SUBMITTER_CLIENT" "$@"
    exec "$@"
}
