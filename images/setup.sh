#!/bin/sh
# Installs what is missing: Debian packages, then the virtual environment in .venv. Says nothing,
# and takes no time, when nothing is missing. Package sources are the host's own configuration.
# With --browser also what only tests need: a browser for the HTML report, socat, gdb and ip.
# With --slow also what only slow tests need: the clang that knows LoongArch.
# With --bench also what boards on a bench need, and the virtual ones: labgrid, flashrom, ser2net.
set -eu
cd "$(dirname "$0")/.."

fail() { echo "bootmatrix: $*" >&2; exit 1; }

python=
for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14; do
    if "$candidate" -Sc 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done

missing=
command -v mmdebstrap >/dev/null || missing="$missing mmdebstrap"
command -v bwrap >/dev/null || missing="$missing bubblewrap"
command -v nasm >/dev/null || missing="$missing nasm"
command -v clang >/dev/null || missing="$missing clang"  # brings libc6-dev
command -v ld.lld >/dev/null || missing="$missing lld"
command -v llvm-objcopy >/dev/null || missing="$missing llvm"
command -v sbsign >/dev/null || missing="$missing sbsigntool"
command -v openssl >/dev/null || missing="$missing openssl"
command -v syslinux >/dev/null || missing="$missing syslinux"
command -v mcopy >/dev/null || missing="$missing mtools"
[ "$(id -u)" = 0 ] || command -v fakeroot >/dev/null || missing="$missing fakeroot"  # mmdebstrap's
extras=dev
for option; do case $option in
--browser)
    command -v chromium >/dev/null || missing="$missing chromium"
    command -v chromedriver >/dev/null || missing="$missing chromium-driver"
    # What the scripts of `bootmatrix repro` need, which the tests run.
    command -v socat >/dev/null || missing="$missing socat"
    command -v gdb >/dev/null || missing="$missing gdb"
    # The machines of a test's cluster are network namespaces.
    command -v ip >/dev/null || missing="$missing iproute2"
    ;;
--slow)
    command -v clang-19 >/dev/null || missing="$missing clang-19"
    command -v ld.lld-19 >/dev/null || missing="$missing lld-19"
    ;;
--bench)
    extras=dev,bench
    # Both are in /usr/sbin, which not every user's PATH has.
    [ -x /usr/sbin/flashrom ] || command -v flashrom >/dev/null || missing="$missing flashrom"
    [ -x /usr/sbin/ser2net ] || command -v ser2net >/dev/null || missing="$missing ser2net"
    ;;
*) fail "no such option: $option" ;;
esac; done
if [ ! -x .venv/bin/python ]; then
    if [ -n "$python" ]; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    elif command -v python3 >/dev/null; then
        fail "Python 3.11 or newer is needed, found $(python3 --version 2>&1); set PYTHON to one"
    else
        missing="$missing python3 python3-venv"
    fi
fi

if [ -n "$missing" ]; then
    by_hand="sudo apt-get install$missing"
    command -v apt-get >/dev/null || fail "please install:$missing (Debian's package names)"
    if [ "$(id -u)" = 0 ]; then
        root=
    elif sudo -n true 2>/dev/null; then
        root="sudo -n"
    else
        fail "please run: $by_hand"
    fi
    echo "installing Debian packages:$missing"
    log=$(mktemp)
    if ! { $root apt-get -q update && $root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qy install --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get failed. Please run: $by_hand"
    fi
    rm -f "$log"
    [ -n "$python" ] || python=python3
fi

# What was installed is what these two files say, byte for byte.
stamp=.venv/installed-from
# The bench's are asked for, and stay.
if [ "$extras" = dev ] && [ -e .venv/with-bench ]; then extras=dev,bench; fi
if cat pyproject.toml constraints.txt | cmp -s - "$stamp" &&
        { [ "$extras" = dev ] || [ -e .venv/with-bench ]; }; then
    exit 0
fi
if ! .venv/bin/python -c '' 2>/dev/null; then
    "${python:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; set PYTHON to one"
    echo "making the virtual environment .venv"
    rm -rf .venv
    "$python" -m venv .venv || fail "python3 -m venv failed"
fi
echo "installing Python packages into .venv"
# A user's pip.conf stays in force (it may name the index), but an install into the user's home,
# or anywhere else than .venv, is not what is meant here. Modules are compiled once imported:
# to compile all of them, most of which nobody imports, pip takes half a minute.
env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PYTHONNOUSERSITE=1 \
    .venv/bin/python -m pip install --quiet --editable ".[$extras]" --constraint constraints.txt ||
    fail "pip failed"
[ -x .venv/bin/bootmatrix ] || fail "pip did not install into .venv; see: pip config list"
cat pyproject.toml constraints.txt >"$stamp"
[ "$extras" = dev ] || : >.venv/with-bench
