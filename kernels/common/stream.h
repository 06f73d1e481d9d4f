// The CUDA stream a launcher uses, without CUDA's headers; CPU kernels ignore it.
#pragma once

struct CUstream_st;

namespace sluice::kernels {
using Stream = CUstream_st*;
}
