#!/bin/sh
# Makes the image of a worker (docs/cluster.md) with the local Docker engine, and pulls none:
#   deploy/worker.sh [NAME:TAG]
# It is Debian 12, by mmdebstrap, with this checkout's wheel and dask in it. Beside Python it has what
# PACKAGES names: by default what cells of a BIOS need, and what makes UEFI's and Linux' guests.
# VARIANT is mmdebstrap's: with "extract" no script of any package runs, which is enough for a look.
set -eu
cd "$(dirname "$0")/.."
image=${1:-bootmatrix-worker:latest}
packages=${PACKAGES-bubblewrap mmdebstrap nasm ca-certificates \
    clang lld llvm mtools syslinux sbsigntool openssl}
variant=${VARIANT:-minbase}
python=.venv/bin/python

[ -x "$python" ] || { echo "deploy/worker.sh: there is no .venv: images/setup.sh" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" .
wheel=$(echo "$work"/bootmatrix-*.whl)
# Debian 12 has Python 3.11, whatever this machine has.
"$python" -m pip install --quiet --disable-pip-version-check --target "$work/lib" \
    --python-version 3.11 --only-binary=:all: --constraint constraints.txt "${wheel}[cluster]"

cat >"$work/bootmatrix" <<'END'
#!/bin/sh
PYTHONPATH=/opt/bootmatrix exec python3 -m bootmatrix "$@"
END
cat >"$work/dask" <<'END'
#!/bin/sh
PYTHONPATH=/opt/bootmatrix exec python3 -m dask "$@"
END
chmod 755 "$work/bootmatrix" "$work/dask"

mirror=$("$python" -c 'from bootmatrix.roots import debian; print(debian.host_mirror() or "")')
include=$(echo python3 $packages | tr ' ' ',')
mmdebstrap --quiet --variant="$variant" --include="$include" \
    --extract-hook="mkdir -p \"\$1/opt/bootmatrix\" \"\$1/usr/local/bin\"" \
    --extract-hook="cp -r $work/lib/. \"\$1/opt/bootmatrix/\"" \
    --extract-hook="cp $work/bootmatrix $work/dask \"\$1/usr/local/bin/\"" \
    bookworm "$work/root.tar" $mirror
docker import --change 'ENTRYPOINT ["/usr/local/bin/bootmatrix"]' \
    --change 'ENV XDG_CACHE_HOME=/var/cache' --change 'ENV LC_ALL=C.UTF-8' \
    "$work/root.tar" "$image" >/dev/null
echo "made $image"
