#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/embed/embedding.h"
#include "kernels/embed/token_order.h"

namespace sluice::kernels {
namespace {

// The sorted places are cut into pieces. A block adds up the runs of equal tokens in its piece; those that
// reach over its ends are finished by a second kernel. So a token's frequency makes no difference to the
// time.
constexpr int PIECE = 32;
constexpr int THREADS = 128;
// Rows whose loads are on their way together.
constexpr int TOGETHER = 8;
// Lanes that share the pieces of a long run.
constexpr int RUN_LANES = 8;

int64_t pieces_of(int64_t rows) { return (rows + PIECE - 1) / PIECE; }

// The tokens of a piece and those beside it; `nothing` beyond the ends.
struct Piece {
  int64_t first, count;
  uint32_t before, after;

  __device__ Piece(const uint32_t* token, int64_t rows, int64_t piece) {
    constexpr uint32_t nothing = 0xffffffffu;
    first = piece * PIECE;
    count = rows - first < PIECE ? rows - first : PIECE;
    before = first > 0 ? token[first - 1] : nothing;
    after = first + count < rows ? token[first + count] : nothing;
  }
};

template <int N>
__device__ __forceinline__ void add_to_row(float* row, const float (&sum)[N]) {
  auto total = Pack<float, N>::load(row);
#pragma unroll
  for (int i = 0; i < N; ++i) total.set(i, total[i] + sum[i]);
  total.store(row);
}

template <int N>
__device__ __forceinline__ void store_row(float* row, const float (&sum)[N]) {
  Pack<float, N>::of(sum).store(row);
}

// partial [pieces, 2, columns]: in [piece, 0] the sum of the run that began before the piece, in [piece, 1]
// that of the run that begins in it and goes on after it.
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    sum_pieces(const __grid_constant__ EmbeddingBackward<T> p, cuda::TokenOrder order, float* partial) {
  __shared__ uint32_t tokens[PIECE], places[PIECE];
  const int64_t index = blockIdx.x;
  const Piece piece(order.token, p.rows, index);
  if (threadIdx.x < piece.count) {
    tokens[threadIdx.x] = order.token[piece.first + threadIdx.x];
    places[threadIdx.x] = order.place[piece.first + threadIdx.x];
  }
  __syncthreads();
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * THREADS + threadIdx.x) * N;
  if (column >= p.columns) return;
  const int count = static_cast<int>(piece.count);
  float sum[N] = {};
  for (int start = 0; start < count; start += TOGETHER) {
    Pack<T, N> dy[TOGETHER];
#pragma unroll
    for (int u = 0; u < TOGETHER; ++u) {
      if (start + u < count) dy[u] = Pack<T, N>::load(p.dy + places[start + u] * p.dy_stride + column);
    }
#pragma unroll
    for (int u = 0; u < TOGETHER; ++u) {
      const int i = start + u;
      if (i >= count) continue;
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += dy[u][j];
      const uint32_t token = tokens[i];
      const bool last = i + 1 == count;
      if (!last && tokens[i + 1] == token) continue;
      // The run ends here, or the piece does.
      const bool from_before = token == piece.before && tokens[0] == token;
      const bool goes_on = last && token == piece.after;
      if (token < p.vocabulary) {
        if (from_before) {
          store_row<N>(partial + index * 2 * p.columns + column, sum);
        } else if (goes_on) {
          store_row<N>(partial + (index * 2 + 1) * p.columns + column, sum);
        } else {
          add_to_row<N>(p.dweight + token * p.dweight_stride + column, sum);
        }
      }
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] = 0;
    }
  }
}

// One block a piece in which a run begins that goes on after it: adds the run's parts up.
template <class T, int N>
__global__ void __launch_bounds__(32 * RUN_LANES) finish_runs(const __grid_constant__ EmbeddingBackward<T> p,
                                                              cuda::TokenOrder order, const float* partial) {
  __shared__ float shared[RUN_LANES][32 * N];
  const int64_t index = blockIdx.x;
  const Piece piece(order.token, p.rows, index);
  const uint32_t token = order.token[piece.first + piece.count - 1];
  const bool begins_here = order.token[piece.first] != token || piece.before != token;
  if (token != piece.after || !begins_here || token >= p.vocabulary) return;
  // The run's last place, by bisection in the sorted tokens.
  int64_t low = piece.first + piece.count, high = p.rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (order.token[middle] == token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const int64_t last_piece = (low - 1) / PIECE;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * 32 + threadIdx.x) * N;
  float sum[N] = {};
  if (column < p.columns) {
#pragma unroll 4
    for (int64_t k = index + 1 + threadIdx.y; k <= last_piece; k += RUN_LANES) {
      const auto part = Pack<float, N>::load(partial + k * 2 * p.columns + column);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += part[j];
    }
  }
#pragma unroll
  for (int j = 0; j < N; ++j) shared[threadIdx.y][threadIdx.x * N + j] = sum[j];
  __syncthreads();
  if (threadIdx.y != 0 || column >= p.columns) return;
  const auto first = Pack<float, N>::load(partial + (index * 2 + 1) * p.columns + column);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    sum[j] = first[j];
    for (int lane = 0; lane < RUN_LANES; ++lane) sum[j] += shared[lane][threadIdx.x * N + j];
  }
  add_to_row<N>(p.dweight + token * p.dweight_stride + column, sum);
}

template <class T, int N>
void launch(const EmbeddingBackward<T>& p, const cuda::TokenOrder& order, float* partial) {
  const auto pieces = static_cast<unsigned>(pieces_of(p.rows));
  const int64_t packs = p.columns / N;
  sum_pieces<T, N>
      <<<dim3(pieces, static_cast<unsigned>((packs + THREADS - 1) / THREADS)), THREADS, 0, p.stream>>>(
          p, order, partial);
  SLUICE_CHECK_LAUNCH("embedding_backward");
  finish_runs<T, N>
      <<<dim3(pieces, static_cast<unsigned>((packs + 31) / 32)), dim3(32, RUN_LANES), 0, p.stream>>>(p, order,
                                                                                                     partial);
  SLUICE_CHECK_LAUNCH("embedding_backward's long runs");
}

}  // namespace

namespace cuda {

// The order of the tokens, then the partial sums.
template <class T>
int64_t embedding_backward_workspace(const EmbeddingBackward<T>& p) {
  return token_order_workspace(p.rows, p.vocabulary) +
         pieces_of(p.rows) * 2 * p.columns * static_cast<int64_t>(sizeof(float));
}

template <class T>
void embedding_backward(const EmbeddingBackward<T>& p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  const TokenOrder order = sort_tokens(p.tokens, p.rows, p.vocabulary, p.workspace, p.stream);
  auto* partial =
      reinterpret_cast<float*>(static_cast<char*>(p.workspace) + token_order_workspace(p.rows, p.vocabulary));
  // Packs of floats are as long as packs of T.
  constexpr int N = PACK<T>;
  if (can_pack<N>(p.dy, p.dy_stride, p.columns) && can_pack<N>(p.dweight, p.dweight_stride, p.columns)) {
    launch<T, N>(p, order, partial);
  } else {
    launch<T, 1>(p, order, partial);
  }
}

template void embedding_backward(const EmbeddingBackward<float>&);
template void embedding_backward(const EmbeddingBackward<bfloat16>&);
template int64_t embedding_backward_workspace(const EmbeddingBackward<float>&);
template int64_t embedding_backward_workspace(const EmbeddingBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
