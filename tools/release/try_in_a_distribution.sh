#!/bin/sh
# Tries a wheel with the Python, cffi and cryptography of Debian or Alpine.
#
#     docker run --rm --platform linux/s390x -v "$PWD:/source:ro" -v "$DIST:/dist:ro" debian:trixie \
#         sh /source/tools/release/try_in_a_distribution.sh /dist/msal_extensions-...-s390x.whl
#
# It runs inside the image, as root. For these processors PyPI has no cffi or no cryptography, and
# a distribution has both. pip takes a wheel only for the C library and the processor of its own
# Python, so the wheel ran on what its name says. `pip check` looks at the versions of all that the
# wheel requires.
set -eu
wheel=$1
here=$(dirname "$0")
if command -v apk >/dev/null; then
    apk add --no-cache python3 py3-pip py3-cffi py3-cryptography py3-jwt py3-requests
else
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    # python3-cffi-backend would do for running, but only python3-cffi tells pip that cffi is there.
    apt-get -q install -y --no-install-recommends python3-venv python3-cffi python3-cryptography \
        python3-jwt python3-requests
fi
python3 -m venv --system-site-packages /tmp/tried
pip="/tmp/tried/bin/python -m pip --disable-pip-version-check"
$pip install --quiet --no-deps --only-binary :all: --require-hashes -r "$here/requirements/msal.txt"
$pip install --quiet --no-deps "$wheel"
$pip check
cd /tmp
exec /tmp/tried/bin/python "$here/../../tests/support/smoke.py"
