# locked.sh STAMP COMMAND...: runs COMMAND and touches STAMP; one make at a time, and not again what another one
# has done while this one waited.
stamp=$1
shift
before=$(stat -c %y "$stamp" 2>/dev/null)
exec 9>"$stamp.lock"
flock 9
[ "$(stat -c %y "$stamp" 2>/dev/null)" = "$before" ] || exit 0
"$@" 9>&- && touch "$stamp"
