# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# shellcheck source=tests/bindings/python_wheel.sh
. "$SOURCE/tests/bindings/python_wheel.sh"
$python -m unittest discover -v -s package/tests
$python package/tests/overhead.py
