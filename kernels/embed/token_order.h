// Places sorted by the token they hold, on the device; equal tokens stay in order of place.
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels::cuda {

struct TokenOrder {
  const uint32_t* token =
      nullptr;  // [rows], ascending; tokens outside [0, vocabulary) come last, as `vocabulary`
  const uint32_t* place = nullptr;  // [rows]
};

// Lies in `workspace`, of token_order_workspace() bytes, and is filled in by work on the stream.
TokenOrder sort_tokens(const int32_t* tokens, int64_t rows, int64_t vocabulary, void* workspace,
                       Stream stream);
int64_t token_order_workspace(int64_t rows, int64_t vocabulary);

}  // namespace sluice::kernels::cuda
