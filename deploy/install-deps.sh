#!/bin/sh
# install-deps.sh: installs the Debian/Ubuntu packages that semindex needs, and nothing else. Idempotent: what is there is left alone.
#
#   deploy/install-deps.sh [build|test|lint|fuzz]...     (default: build test)
#
# It says what it installs. It asks first, unless it runs as root or CI is set.
set -eu

build="gcc g++ make pkg-config libmicrohttpd-dev libcjson-dev libsqlite3-dev libdnnl-dev libsentencepiece-dev libgnutls28-dev libsystemd-dev zlib1g-dev curl"
test="libcmocka-dev python3"
lint="python3 git"
fuzz="clang libclang-rt-14-dev"

wanted=""
for group in ${*:-build test}; do
    case $group in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    lint) wanted="$wanted $lint" ;;
    fuzz) wanted="$wanted $fuzz" ;;
    *) echo "install-deps.sh: unknown group '$group'; groups are build test lint fuzz" >&2; exit 64 ;;
    esac
done

missing=""
for package in $wanted; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || { echo "install-deps.sh: no apt-get here; install these yourself:$missing" >&2; exit 69; }
echo "semindex needs these packages:$missing"
sudo=""
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    if [ -z "${CI:-}" ]; then
        printf 'Install them with sudo apt-get? [y/N] '
        read -r answer
        case $answer in y | Y | yes) ;; *) echo "nothing installed"; exit 75 ;; esac
    fi
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "installed:$missing"
