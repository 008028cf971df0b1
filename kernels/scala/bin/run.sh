#!/usr/bin/env bash
# Submits the launcher of a Scala kernel (Apache Toree) to Spark.
#
#   SPARK_HOME           Spark, whose bin/spark-submit is run
#   SPARK_OPTS           its options; variables such as ${KERNEL_ID:-none} are filled in, commands are not run
#   LAUNCH_OPTS          options of the launcher, treated alike
#   TOREE_OPTS           options of Toree, treated alike
#   DEFAULT_INTERPRETER  Scala or SQL
#   TOREE_ASSEMBLY       Toree's assembly jar; by default the one that was found when the kernelspec was installed
#   arguments            those of kernel.json's argv: the connection file and the launcher's options
#
# __TOREE_SPARK_OPTS__ and __TOREE_OPTS__ of Toree's own kernelspecs are used where SPARK_OPTS and TOREE_OPTS are empty.
# With ELYRA_IMPERSONATION_ENABLED=True the application runs as KERNEL_USERNAME.

here=$(cd -P -- "${BASH_SOURCE[0]%/*}" && pwd) || exit
source "$here/words.sh"
source "$here/submit.sh"
source "$here/assembly.sh"

check_spark
find_assembly "$here/../lib"
check_scala
spark_options=${SPARK_OPTS:-$__TOREE_SPARK_OPTS__}
WORDS=()
split "$spark_options"
ELYRA_TOREE_JARS=$(jars_before "${WORDS[@]}")$assembly
WORDS=()
split "${TOREE_OPTS:-$__TOREE_OPTS__}"
interpreter=()
[[ -z $DEFAULT_INTERPRETER || " ${WORDS[*]}" == *' --default-interpreter'* ]] ||
    interpreter=(--default-interpreter "$DEFAULT_INTERPRETER")

submit "$here/../scripts/launch_toree.py" "$spark_options "'--jars "$ELYRA_TOREE_JARS"' "$LAUNCH_OPTS" \
    "$@" "${interpreter[@]}" "${WORDS[@]}"
