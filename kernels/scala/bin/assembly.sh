# Sourced by run.sh, after words.sh: which assembly jar of Toree there is, and whether it fits the Spark.

# Sets assembly, and assembly_scala where the Scala that it was built for is known. The directory is that of Toree's own
# kernelspecs, which have the jar in it; ours have a file there with the jar's place and its Scala.
find_assembly() {
    local place file
    assembly=$TOREE_ASSEMBLY assembly_scala=''
    if [[ -z $assembly && -r $1/toree-assembly ]]; then
        { read -r assembly && read -r assembly_scala; } <"$1/toree-assembly"
    fi
    for file in "$1"/toree-assembly*.jar; do
        [[ -n $assembly || ! -e $file ]] || assembly=$file
    done
    [[ -n $assembly ]] ||
        fail "no assembly jar of Toree: pip install toree and install the kernelspec again, or name the jar in TOREE_ASSEMBLY or by jupyter elyra install --toree-assembly=FILE" 78
    place=${assembly#local:}
    place=${place#file:}
    while [[ $place == //* ]]; do place=${place:1}; done
    [[ $place == /* ]] || place=$PWD/$place
    if [[ $assembly == [a-z]*:* && $assembly != file:* && $assembly != local:* ]]; then
        return # where this host cannot see it
    fi
    [[ $assembly == local:* && ! -e $place ]] || [[ -f $place && -r $place ]] ||
        fail "the assembly jar of Toree, $assembly, does not exist or cannot be read: check TOREE_ASSEMBLY, or install the kernelspec again with --toree-assembly=FILE" 78
    [[ $assembly == *:* ]] || assembly=$place
}

# Ends with both versions of Scala where they do not fit. Where one of them is not known here, the launcher sees it later.
check_scala() {
    local file scala
    for file in "$SPARK_HOME"/jars/scala-library-*.jar; do
        scala=${file##*/scala-library-}
        scala=${scala%.jar}
        [[ -n $assembly_scala && -e $file && ${scala%.*} != "${assembly_scala%.*}" ]] || continue
        fail "Toree ($assembly) was built for Scala $assembly_scala, but the Spark in $SPARK_HOME has Scala $scala: use a Toree for Scala ${scala%.*} (TOREE_ASSEMBLY), or a Spark with Scala ${assembly_scala%.*}" 78
    done
}

# Prints the jars that Spark's options name already, with a comma behind: a second --jars would replace them.
jars_before() {
    local word before='' jars='' name value defaults=${SPARK_CONF_DIR:-$SPARK_HOME/conf}/spark-defaults.conf
    if [[ -r $defaults ]]; then
        while read -r name value || [[ -n $name ]]; do
            [[ $name != spark.jars ]] || jars=$value
            [[ $name != spark.jars=* ]] || jars=${name#*=}
        done <"$defaults"
    fi
    for word in "$@"; do
        case $before$word in
        --conf*spark.jars=* | -cspark.jars=*) jars=${word#*spark.jars=} ;;
        esac
        before=''
        [[ $word != --conf && $word != -c ]] || before=$word
    done
    before=''
    for word in "$@"; do
        [[ $before != --jars ]] || jars=$word
        [[ $word != --jars=* ]] || jars=${word#--jars=}
        before=$word
    done
    printf '%s' "${jars:+$jars,}"
}
