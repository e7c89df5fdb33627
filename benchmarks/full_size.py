"""Times the full-size generators, random weights in the exact architectures, beside their floors.

    python -m benchmarks.full_size --random-weights [--model musicldm|audioldm2|audioldm2-speech]
        [--seconds 2.56] [--steps 1 2 4] [--device cpu|cuda|tensorrt] [--engine eager compile ...]

Writes benchmarks/results/full_size.json and .md; `hearback bench --full --random-weights` prints
the same. Timings beside a load are upper bounds; the load stands in the results.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version

from benchmarks.rig import machine, write_results
from export.bench.engines import ENGINES
from export.bench.full_size import FullSettings, time_full
from models.nets.full.published import FAMILIES

__all__ = ["main"]


def main() -> None:
    """Run it."""
    args = _arguments()
    before = machine()
    before["packages"] = {
        name: version(name) for name in ("torch", "diffusers", "transformers", "onnxruntime")
    }
    settings = FullSettings(
        models=tuple(args.model),
        seconds=args.seconds,
        steps=tuple(args.steps),
        device=args.device,
        dtype=args.dtype,
        engines=tuple(args.engine) if args.engine else None,
        repeats=args.repeats,
        threads=args.threads,
    )
    rows, hardware = time_full(settings, progress=lambda what, done, total: print(what, flush=True))
    before["gpu"] = hardware
    title = "Full-size generators, random weights; upper bounds where the machine was loaded"
    asked = {key: value for key, value in vars(args).items() if key not in ("json", "out")}
    write_results(args.out, title=title, settings=asked, before=before, rows=rows)
    if args.json:
        print(json.dumps({"machine": before, "settings": asked, "rows": rows}))


def _arguments() -> argparse.Namespace:
    head = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=head, epilog="Results: benchmarks/results/")
    parser.add_argument("--random-weights", action="store_true", required=True)
    parser.add_argument("--model", nargs="+", choices=list(FAMILIES), default=["musicldm"])
    parser.add_argument("--seconds", type=float, default=2.56, help="a multiple of 0.32")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--device", choices=["cpu", "cuda", "tensorrt"], default="cpu")
    parser.add_argument(
        "--dtype", choices=["fp32", "fp16", "bf16"], default=None, help="cpu fp32, GPU fp16"
    )
    parser.add_argument(
        "--engine", nargs="+", choices=ENGINES, default=None, help="default: cpu eager onnx"
    )
    parser.add_argument("--repeats", type=int, default=None, help="default: cpu 5, GPU 200")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="full_size", help="name of the results")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    return parser.parse_args()


if __name__ == "__main__":
    main()
