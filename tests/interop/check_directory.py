"""check_directory.py DIRECTORY TOKENS LOGITS.npy PROMPT CONTINUATION TOLERANCE

Compares what PyTorch computes from a model directory with what our programs said: the logits of every window of a
bare uint16 token file (evaluate --logits), and a greedy continuation (generate --greedy) of a prompt of token ids.
Prints one line and exits with 1 where they differ.
"""

import array
import ast
import math
import sys

import torch
from safetensors import safe_open

import os
import reference_model


def read_npy(path):
    """A float32 array of three dimensions as (windows, length, values as an array of floats)."""
    with open(path, "rb") as file:
        content = file.read()
    assert content[:8] == b"\x93NUMPY\x01\x00", path
    size = int.from_bytes(content[8:10], "little")
    description = ast.literal_eval(content[10 : 10 + size].decode())
    assert description["descr"] == "<f4" and not description["fortran_order"], description
    values = array.array("f")
    values.frombytes(content[10 + size :])
    return description["shape"], values


def check_logits(config, weights, tokens, path):
    """Relative RMS difference over all windows."""
    (windows, length, vocabulary), ours = read_npy(path)
    squares, reference = 0.0, 0.0
    for window in range(windows):
        part = tokens[window * length : (window + 1) * length]
        theirs = reference_model.logits(config, weights, part)
        assert list(theirs.shape) == [length, vocabulary], theirs.shape
        begin = window * length * vocabulary
        mine = torch.tensor(ours[begin : begin + length * vocabulary], dtype=torch.float64).reshape(length, vocabulary)
        squares += float(((mine - theirs) * (mine - theirs)).sum())
        reference += float((theirs * theirs).sum())
    return math.sqrt(squares / reference)


def check_continuation(config, weights, prompt, continuation):
    """The number of tokens that are the most probable ones after all before them."""
    theirs = reference_model.logits(config, weights, prompt + continuation[:-1])
    best = theirs[len(prompt) - 1 :].argmax(-1).tolist()
    return sum(1 for ours, reference in zip(continuation, best) if ours == reference)


def main():
    directory, tokens_path, logits_path, prompt, continuation, tolerance = sys.argv[1:]
    with open(tokens_path, "rb") as file:
        tokens = array.array("H")
        tokens.frombytes(file.read())
    prompt = [int(token) for token in prompt.split(",")]
    continuation = [int(token) for token in continuation.split()]
    tolerance = float(tolerance)

    config, weights = reference_model.read_directory(directory)
    for name in sorted(os.listdir(directory)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(directory, name), framework="pt") as file:
                assert file.metadata() == {"format": "pt"}, (name, file.metadata())
    error = check_logits(config, weights, list(tokens), logits_path)
    agreeing = check_continuation(config, weights, prompt, continuation)
    good = error <= tolerance and agreeing == len(continuation) and len(continuation) > 0
    print(
        "%s  logits %.2e (at most %.0e), greedy continuation of %d tokens: %d of %d"
        % ("ok    " if good else "FAILED", error, tolerance, len(prompt), agreeing, len(continuation))
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
