#!/bin/sh
# Takes out of a folder of installed packages what serving never loads. The image's tests predict with what is left.
set -eu
cd "$1"

# Tests, the tools of ONNX Runtime and its second copy of the library.
rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/capi/libonnxruntime.so* \
    numpy/f2py numpy/distutils Crypto/SelfTest
find . -depth -type d -name tests -exec rm -rf {} +

# numpy.libs and *.libs stay as they are: a patched ELF file does not survive strip.
strip --strip-unneeded _polars_runtime_32/*.so numpy/_core/*.so
