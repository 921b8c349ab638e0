"""Generators of 28 x 28 digits: training time, reconstruction error and coverage.

    python experiments/mnist.py t10k-images-idx3-ubyte.gz --kinds conv-vae dense-vae conv-gan

The argument is an MNIST file in IDX format, plain or compressed; it is not part of this project.
Results go to ``docs/benchmarks/mnist.json``; times are wall clock of one thread.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch

from bo_invert.generators.base import GeneratorConfig, train_generator
from bo_invert.generators.gan import GANConfig
from bo_invert.generators.vae import VAEConfig

ROOT = Path(__file__).parents[1]
SHAPE = (28, 28)
KINDS: dict[str, GeneratorConfig] = {
    "conv-vae": VAEConfig(
        SHAPE, 16, network="conv", channels=(16, 32), epochs=30, patience=5, batch_size=128
    ),
    "dense-vae": VAEConfig(SHAPE, 16, hidden=(512, 256), epochs=60, patience=5, batch_size=128),
    "conv-gan": GANConfig(
        SHAPE, 16, network="conv", channels=(16, 32), epochs=30, patience=8, batch_size=128
    ),
}


def images(file: Path) -> np.ndarray:
    """Images ``(n, 28, 28)`` in [0, 1] of a file in IDX format."""
    content = file.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    magic, n, height, width = np.frombuffer(content[:16], dtype=">i4")
    if magic != 2051:
        raise SystemExit(f"{file} holds no images in IDX format")
    return np.frombuffer(content[16:], dtype=np.uint8).reshape(n, height, width) / 255.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--device")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs", help="a folder like the project's docs"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    designs = images(options.images)
    file = options.out / "benchmarks" / "mnist.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for kind in options.kinds:
        network, report = train_generator(
            designs, KINDS[kind], progress=True, device=options.device
        )
        size = sum(p.numel() for p in network.parameters())
        results[kind] = {"designs": len(designs), "parameters": size, "report": report.to_json()}
        print(f"{kind}: {size} parameters; {report}", flush=True)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
