#!/bin/sh
# peers.sh BUILD [arguments of peers.py]: the same weights under CTranslate2, Hugging Face and PyTorch.
#
# Python with the peers is PEERS_PYTHON (default python3) where it has them, else from a venv of the bench's own beside the build (some
# 6 GB, made once). The packages are looked for without loading them: one that cannot be loaded is peers.py's to say, and no reason for a
# venv. Everything else is peers.py; `peers.py --help` says what it takes.
set -eu
build=$1
shift
here=$(dirname "$0")
has_peers() {
    [ -n "$(command -v "$1")" ] && "$1" -c 'import importlib.util, sys
names = "torch transformers ctranslate2 safetensors tokenizers numpy".split()
sys.exit(any(importlib.util.find_spec(name) is None for name in names))'
}
python=${PEERS_PYTHON:-python3}
if ! has_peers "$python"; then
    python=$build/venv-peers/bin/python
    if ! has_peers "$python"; then
        echo "peers: making $build/venv-peers (some 6 GB from PyPI)"
        python3 -m venv "$build/venv-peers"
        "$python" -m pip install --quiet --disable-pip-version-check torch transformers ctranslate2 safetensors sentencepiece numpy
    fi
fi
# shellcheck disable=SC2086  # PEERS_ARGS holds several words
exec "$python" "$here/peers.py" --build "$build" ${PEERS_ARGS:-} "$@"
