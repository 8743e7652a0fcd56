#!/bin/sh
# Takes out of a folder of installed packages what serving never loads. The image's tests predict with what is left.
set -eu
cd "$1"

# Headers, sources and tests; Arrow's remote file systems (the lake goes through delta-rs) and Flight; ONNX tools.
rm -rf pyarrow/include pyarrow/includes pyarrow/src pyarrow/*.p[xy][xdi] pyarrow/*.pyx pyarrow/*.pxi \
    pyarrow/*flight* pyarrow/_s3fs* pyarrow/libarrow_s3* pyarrow/_azurefs* pyarrow/_gcsfs* pyarrow/_hdfs* \
    pyarrow/_pyarrow_cpp_tests* \
    onnxruntime/transformers onnxruntime/tools onnxruntime/quantization onnxruntime/capi/libonnxruntime.so* \
    numpy/f2py numpy/distutils numba/cuda/tests Crypto/SelfTest
find . -depth -type d -name tests -exec rm -rf {} +

# libarrow_python.so and libarrow_python.so.N.M are copies of the one name that is loaded: wheels know no links.
for copy in pyarrow/libarrow*.so pyarrow/libparquet*.so pyarrow/libarrow*.so.*.*.*; do
    rm -f "$copy"
done

# numpy.libs and *.libs stay as they are: a patched ELF file does not survive strip.
strip --strip-unneeded _polars_runtime_32/*.so llvmlite/binding/*.so numpy/_core/*.so pyarrow/*.so*
