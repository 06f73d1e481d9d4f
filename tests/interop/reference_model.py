"""GLA and LLaMA-style language models from the equations, in PyTorch and float64, one sequence at a time.

An independent reading of a Hugging Face directory: it shares nothing with the programs it checks. Clarity before
speed; the recurrence of gated linear attention runs token by token.
"""

import json
import math
import os

import torch
from safetensors.torch import load_file


def read_directory(path):
    """config.json and all weights by name, from one file or from the shards that the index lists."""
    with open(os.path.join(path, "config.json")) as file:
        config = json.load(file)
    index = os.path.join(path, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as file:
            files = sorted(set(json.load(file)["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    weights = {}
    for name in files:
        weights.update(load_file(os.path.join(path, name)))
    return config, {name: tensor.double() for name, tensor in weights.items()}


def rms_norm(x, weight, eps):
    normalised = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)
    return normalised if weight is None else normalised * weight


def silu(x):
    return x * torch.sigmoid(x)


FEATURE_MAPS = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "swish": silu,
    "silu": silu,
    "tanh": torch.tanh,
}


class Layer:
    """The weights below one prefix; a missing one is None."""

    def __init__(self, weights, prefix):
        self.weights = weights
        self.prefix = prefix

    def __call__(self, name):
        return self.weights.get(self.prefix + name)

    def linear(self, x, name):
        y = x @ self(name + ".weight").transpose(0, 1)
        bias = self(name + ".bias")
        return y if bias is None else y + bias


def causal_convolution(x, weight):
    """x [T, C], weight [C, 1, W]: y[t] = sum_j weight[:, j] x[t - W + 1 + j], then SiLU."""
    length, channels = x.shape
    width = weight.shape[2]
    padded = torch.cat([torch.zeros(width - 1, channels, dtype=x.dtype), x])
    y = torch.zeros(length, channels, dtype=x.dtype)
    for j in range(width):
        y = y + padded[j : j + length] * weight[:, 0, j]
    return silu(y)


def gated_linear_attention(x, layer, config):
    length, hidden = x.shape
    heads = config["num_heads"]
    kv_heads = config.get("num_kv_heads") or heads
    group = heads // kv_heads
    key = int(hidden * config.get("expand_k", 0.5)) // heads
    value = int(hidden * config.get("expand_v", 1.0)) // heads

    q, k, v = (layer.linear(x, name + "_proj") for name in "qkv")
    if config.get("use_short_conv"):
        q, k, v = (
            causal_convolution(part, layer(name + "_conv1d.weight"))
            for name, part in zip("qkv", (q, k, v))
        )
    if config.get("feature_map"):
        feature_map = FEATURE_MAPS[config["feature_map"]]
        q, k = feature_map(q), feature_map(k)
    low_rank = x @ layer("gk_proj.0.weight").transpose(0, 1)
    gate = low_rank @ layer("gk_proj.1.weight").transpose(0, 1) + layer("gk_proj.1.bias")
    # log(sigmoid(a)) = -log(1 + exp(-a)), without overflow on either side.
    log_decay = (torch.clamp(gate, max=0) - torch.log(1 + torch.exp(-torch.abs(gate)))) / 16
    if config.get("clamp_min") is not None:
        log_decay = torch.clamp(log_decay, min=config["clamp_min"])

    q = q.reshape(length, heads, key)
    # Key head j serves the query heads j * group to (j + 1) * group - 1.
    k = k.reshape(length, kv_heads, key).repeat_interleave(group, 1)
    v = v.reshape(length, kv_heads, value).repeat_interleave(group, 1)
    decay = torch.exp(log_decay).reshape(length, kv_heads, key).repeat_interleave(group, 1)

    state = torch.zeros(heads, key, value, dtype=x.dtype)
    outputs = []
    for t in range(length):
        state = decay[t].unsqueeze(2) * state + k[t].unsqueeze(2) * v[t].unsqueeze(1)
        outputs.append((q[t].unsqueeze(2) * state).sum(1) / math.sqrt(key))
    o = torch.stack(outputs)

    norm = layer("g_norm_swish_gate.weight")
    if norm is None:
        norm = layer("g_norm.weight")
    o = rms_norm(o, norm, config["norm_eps"]).reshape(length, heads * value)
    if config.get("use_output_gate", True):
        o = o * silu(layer.linear(x, "g_proj"))
    return layer.linear(o, "o_proj")


def rotate(x, theta):
    """x [T, H, D]: channel i is turned with channel i + D / 2 by the angle t * theta^(-2 i / D)."""
    length, _, size = x.shape
    half = size // 2
    frequencies = [theta ** (-2.0 * i / size) for i in range(half)]
    angles = torch.tensor([[t * f for f in frequencies] for t in range(length)], dtype=x.dtype).unsqueeze(1)
    cos, sin = torch.cos(angles), torch.sin(angles)
    first, second = x[:, :, :half], x[:, :, half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def softmax_attention(x, layer, config):
    length, hidden = x.shape
    heads = config["num_heads"]
    kv_heads = config.get("num_kv_heads") or heads
    size = hidden // heads
    q = layer.linear(x, "q_proj").reshape(length, heads, size)
    k = layer.linear(x, "k_proj").reshape(length, kv_heads, size)
    v = layer.linear(x, "v_proj").reshape(length, kv_heads, size)
    if config.get("qk_norm"):
        q = rms_norm(q, layer("q_norm.weight"), 1e-5)
        k = rms_norm(k, layer("k_norm.weight"), 1e-5)
    theta = config.get("rope_theta") or 10000.0
    q, k = rotate(q, theta), rotate(k, theta)
    window = config.get("window_size") or length
    visible = torch.tensor([[0.0 if 0 <= t - s < window else -math.inf for s in range(length)] for t in range(length)],
                           dtype=x.dtype)
    outputs = []
    for head in range(heads):
        kv = head // (heads // kv_heads)
        scores = q[:, head] @ k[:, kv].transpose(0, 1) / math.sqrt(size) + visible
        outputs.append(torch.softmax(scores, -1) @ v[:, kv])
    return layer.linear(torch.cat(outputs, -1), "o_proj")


def attention_config(config, index):
    """What softmax attention layer `index` holds, or None where it is gated linear attention."""
    if config["model_type"] == "transformer":
        return config
    attn = config.get("attn")
    for kind in attn if isinstance(attn, list) else [attn] if attn else []:
        if index in kind["layers"]:
            return kind
    return None


def logits(config, weights, tokens):
    """[T, vocabulary] after each of the tokens, a list of ids."""
    h = torch.stack([weights["model.embeddings.weight"][token] for token in tokens])
    eps = config["norm_eps"]
    for index in range(config["num_hidden_layers"]):
        prefix = "model.layers.%d." % index
        block, mixer, mlp = (Layer(weights, prefix + part) for part in ("", "attn.", "mlp."))
        x = rms_norm(h, block("attn_norm.weight"), eps)
        softmax = attention_config(config, index)
        h = h + (softmax_attention(x, mixer, softmax) if softmax else gated_linear_attention(x, mixer, config))
        y = rms_norm(h, block("mlp_norm.weight"), eps)
        h = h + mlp.linear(silu(mlp.linear(y, "gate_proj")) * mlp.linear(y, "up_proj"), "down_proj")
    h = rms_norm(h, weights.get("model.norm.weight"), eps)
    head = weights["model.embeddings.weight" if config.get("tie_word_embeddings") else "lm_head.weight"]
    return h @ head.transpose(0, 1)
