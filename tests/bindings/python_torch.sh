# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# cadft.torch, with Debian's torch. What needs transformers and TRL is
# huggingface.py, by hand.
/usr/bin/python3 -c 'import torch' 2>/dev/null || lacks python3-torch
# shellcheck source=tests/bindings/python_wheel.sh
. "$SOURCE/tests/bindings/python_wheel.sh"
# More threads than the tests have work for only spin.
OMP_NUM_THREADS=1 $python -m unittest discover -v -s package/tests/pytorch
