# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Builds a source archive, of that a wheel, and installs it alone: then there is a
# folder package with the tests, and `python` sees the wheel, which alone knows
# where the library is.
python=/usr/bin/python3
need $python pkg-config ldd
for module in cffi numpy setuptools wheel pip; do
    $python -c "import $module" 2>/dev/null || lacks "python3-$module"
done
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
cp -R -- "$SOURCE/examples/python" package
(cd package && $python -W ignore setup.py -q sdist)
$python -m pip -q wheel --no-build-isolation --no-deps --no-index \
    -w wheels package/dist/cadft-*.tar.gz
$python -m pip -q install --no-deps --no-index --target site wheels/*.whl
rm -rf -- package/cadft package/build package/dist
unset LD_LIBRARY_PATH PKG_CONFIG_PATH
PYTHONPATH=$PWD/site
export PYTHONPATH
