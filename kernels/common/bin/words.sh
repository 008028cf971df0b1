# Sourced by run.sh. split TEXT makes words of options as a shell would, but runs nothing.
#
# Quotes and backslashes mean what they mean to a shell. $NAME, ${NAME}, and ${NAME:-default}, ${NAME-default},
# ${NAME:+alternative}, ${NAME+alternative} are filled in. What is filled in came from a client, perhaps: it is
# text, never split, never expanded again. The one exception are variables whose names end in _OPTS, such as
# KERNEL_EXTRA_SPARK_OPTS, which hold options: unquoted, they are split into words, with quotes, without variables.

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-64}"
}

# Appends to the array WORDS. With "literal" as second argument, $ and ` are ordinary characters.
split() {
    local LC_ALL=C text=$1 mode=${2:-expand} word='' started='' quoted='' plain
    while [[ -n $text ]]; do
        plain=${text%%[$' \t\n"$`\\'\']*}
        text=${text:${#plain}}
        word+=$plain
        [[ -n $plain ]] && started=yes
        case $text in
        '') ;;
        [$' \t\n']*)
            if [[ -n $quoted ]]; then
                word+=${text:0:1}
            else
                end_word
            fi
            text=${text:1}
            ;;
        '"'*)
            started=yes
            if [[ -n $quoted ]]; then quoted=''; else quoted=yes; fi
            text=${text:1}
            ;;
        "'"*) single_quote ;;
        \\*) backslash ;;
        *)
            if [[ $mode == literal ]]; then
                started=yes word+=${text:0:1} text=${text:1}
            elif [[ $text == \$* ]]; then
                expand
            else
                fail "options contain a backtick near \"${text:0:30}\": commands are not run here"
            fi
            ;;
        esac
    done
    [[ -z $quoted ]] || fail "options contain a \" without its partner: $1"
    end_word
}

# The functions below are parts of split and work on its variables.

end_word() {
    [[ -z $started ]] || WORDS+=("$word")
    word='' started=''
}

single_quote() {
    text=${text:1}
    if [[ -n $quoted ]]; then
        word+="'"
        return
    fi
    [[ $text == *\'* ]] || fail "options contain a ' without its partner near \"${text:0:30}\""
    plain=${text%%\'*}
    word+=$plain started=yes
    text=${text:$((${#plain} + 1))}
}

backslash() {
    if [[ -n $quoted && $text != \\[\$\`\"\\]* ]]; then
        word+=\\
        text=${text:1}
    else
        word+=${text:1:1}
        text=${text:2}
    fi
    started=yes
}

expand() {
    local name operator='' argument='' value
    if [[ $text =~ ^\$([A-Za-z_][A-Za-z0-9_]*) ]]; then
        name=${BASH_REMATCH[1]}
        text=${text:${#BASH_REMATCH[0]}}
    elif [[ $text =~ ^\$\{([A-Za-z_][A-Za-z0-9_]*)(:?[-+])? ]]; then
        name=${BASH_REMATCH[1]} operator=${BASH_REMATCH[2]}
        text=${text:${#BASH_REMATCH[0]}}
        take_argument
    elif [[ $text == \$[\(\{]* ]]; then
        fail "options contain \"${text:0:30}\": only \$NAME, \${NAME}, \${NAME:-default} and \${NAME:+alternative} are filled in"
    else # a $ that begins nothing
        word+=\$ started=yes
        text=${text:1}
        return
    fi
    value=${!name-}
    case $operator in
    :-) [[ -n $value ]] || { text=$argument$text && return; } ;;
    -) [[ -n ${!name+set} ]] || { text=$argument$text && return; } ;;
    :+) [[ -z $value ]] || text=$argument$text && return ;;
    +) [[ -z ${!name+set} ]] || text=$argument$text && return ;;
    esac
    if [[ $name == *_OPTS && -z $quoted ]]; then
        end_word
        split "$value" literal
    elif [[ -n $value ]]; then
        word+=$value started=yes
    fi
}

# Moves what stands before the closing brace from text to argument.
take_argument() {
    local depth=1 length
    for ((length = 0; length < ${#text}; length++)); do
        case ${text:length:1} in
        '{') depth=$((depth + 1)) ;;
        '}') depth=$((depth - 1)) ;;
        esac
        ((depth == 0)) && break
    done
    ((depth == 0)) || fail "options contain \${$name... without its }"
    argument=${text:0:length}
    text=${text:$((length + 1))}
    [[ -n $operator || -z $argument ]] ||
        fail "options contain \"\${$name${argument:0:20}}\": only \${NAME}, \${NAME:-default} and \${NAME:+alternative} are filled in"
}
