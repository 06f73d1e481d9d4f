"""Times of cuDNN's causal attention through PyTorch, to set test_gpu_softmax_attention "[.time]" against.

    python3 tests/gpu/cudnn_attention_time.py [HEADSxHEAD_DIM ...]      (16x64 32x64 16x128 unless said otherwise)

16384 tokens a call in bfloat16, random data, medians of replayed CUDA graphs, milliseconds.
"""
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

TOKENS = 16384


def median_time(call, runs=25):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        call()
    times = []
    for run in range(-5, runs):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        if run >= 0:
            times.append(start.elapsed_time(stop))
    return sorted(times)[len(times) // 2]


def main():
    shapes = sys.argv[1:] or ["16x64", "32x64", "16x128"]
    print("cuDNN", torch.backends.cudnn.version(), "heads x D  length  forward  forward and backward")
    for shape in shapes:
        heads, head_dim = map(int, shape.split("x"))
        for length in (2048, 4096, 8192, 16384):
            size = (TOKENS // length, length, heads, head_dim)
            q, k, v, d_o = (torch.randn(size, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
                            for _ in range(4))
            leaves = [x.detach().requires_grad_() for x in (q, k, v)]

            def forward(q=leaves[0], k=leaves[1], v=leaves[2]):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

            def both(leaves=leaves, d_o=d_o, forward=forward):
                torch.autograd.grad(forward(), leaves, d_o)

            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                with torch.no_grad():
                    alone = median_time(forward)
                together = median_time(both)
            print(f"{heads:2d} x {head_dim:<3d} {length:6d}  {alone:7.3f}  {together:7.3f}", flush=True)


if __name__ == "__main__":
    main()
