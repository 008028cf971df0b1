# What make needs and cannot put into its build directory: Python with venv, a JDK, Maven; with "r" also R and IRkernel.
# Installs Debian's packages as root, and says in one line what is missing where it cannot.

packages=
python=${PYTHON:-python3}
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3 python3-venv"
command -v "${JAVA_HOME:+$JAVA_HOME/bin/}java" >/dev/null || packages="$packages default-jdk-headless"
command -v mvn >/dev/null || packages="$packages maven"
if [ "$1" = r ]; then
    command -v Rscript >/dev/null || packages="$packages r-base-core"
    Rscript -e 'library(IRkernel)' >/dev/null 2>&1 || packages="$packages r-cran-irkernel"
    # Test hosts: namespaces with an sshd each.
    command -v ps >/dev/null || packages="$packages procps"
    command -v ip >/dev/null || packages="$packages iproute2"
    command -v nft >/dev/null || packages="$packages nftables"
    command -v openssl >/dev/null || packages="$packages openssl"
    [ -x /usr/sbin/sshd ] || packages="$packages openssh-server"
    command -v ssh-keygen >/dev/null || packages="$packages openssh-client"
    # A KDC, and what gssapi is compiled with.
    command -v kinit >/dev/null || packages="$packages krb5-user"
    [ -x /usr/sbin/krb5kdc ] || packages="$packages krb5-kdc"
    [ -x /usr/sbin/kadmin.local ] || packages="$packages krb5-admin-server"
    command -v krb5-config >/dev/null || packages="$packages libkrb5-dev"
    command -v cc >/dev/null || packages="$packages gcc libc6-dev"
    "$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
        packages="$packages python3-dev"
fi

if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing$packages ..."
        log=$(mktemp)
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages; } \
            >"$log" 2>&1 </dev/null || {
            tail -n 5 "$log"
            echo "Missing, and apt-get could not install them:$packages" >&2
            exit 1
        }
        rm -f "$log"
    else
        echo "Missing:$packages. Install these packages, or run make as root on Debian." >&2
        exit 1
    fi
fi

# Hadoop's log-in fails with Java 23 and later ("getSubject is not supported"); Toree, for the tests, with 18 and later.
newest=22
[ "$1" != r ] || newest=17
java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
version=$("$java" -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p')
[ "${version:-0}" -ge 11 ] && [ "$version" -le "$newest" ] || {
    echo "$java is Java ${version:-of an unknown version}: set JAVA_HOME to a JDK from 11 to $newest; Debian's default-jdk-headless is one." >&2
    exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "$python is older than 3.10: run make PYTHON=python3.x with a newer one." >&2
    exit 1
}
