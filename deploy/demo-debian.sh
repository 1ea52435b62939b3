#!/bin/sh
# demo-debian.sh: the package lists of this Debian machine as a corpus: IDs are learned on 5,000 packages, the others go in through POST /index.
#
#   deploy/demo-debian.sh [--check] [options of debian_demo.py]      usually through `make demo-debian` or `make demo-debian CHECK=1`
#
# Prints documents per second, how well position 1 agrees with the section, peak memory, and answers to a few queries. --check stops then and
# compares the figures with their bounds; else the daemon goes on until Ctrl-C. Everything lies under build/demo-debian ($BUILD/demo-debian);
# a stopped run goes on where it was, and removing that folder starts anew. apt-get update runs only where the lists are missing.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
began=$(date +%s)

say() { printf '\n== %s\n' "$*"; }

say "packages"
command -v apt-get >/dev/null || { echo "demo-debian: no apt-get here: this demo reads the package lists of Debian or Ubuntu" >&2; exit 69; }
deploy/install-deps.sh build test
if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then
    echo "there are no package lists yet: apt-get update fetches them"
    if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo apt-get update -qq; fi
fi
say "build"
make --no-print-directory BUILD="$build" -j"$(nproc)" "$build/semindex"
exec python3 deploy/debian_demo.py "$build/semindex" "$build/demo-debian" --before-s $(($(date +%s) - began)) "$@"
