#!/bin/sh
# Copy to ci/. Installs what the jobs need on Debian: the programs that make images and guests, and
# bootmatrix from ci/requirements.txt, in which stands one line: `bootmatrix==VERSION`, or the path
# of its wheel.
set -eu
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get -q update
$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends \
    python3-venv mmdebstrap fakeroot bubblewrap nasm
python3 -m venv .venv
.venv/bin/pip install -q -r ci/requirements.txt
