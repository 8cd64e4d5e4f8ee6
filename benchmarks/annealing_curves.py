"""Draw Cosine Power Annealing beside the plain cosine: docs/images/annealing.png.

python -m benchmarks.annealing_curves [--out docs/images/annealing.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.training.schedules import annealed
from reports.studies.figures import Curve, curves

EPOCHS = 120
LARGEST, SMALLEST = 0.025, 1e-4
"""Of sharpDARTS's search."""

SHOWN = {
    "cosine (power 1)": (1.0, 0),
    "power 2, search": (2.0, 0),
    "power 10, ImageNet": (10.0, 0),
    "power 100": (100.0, 0),
    "power 2, warm-up of 5 epochs": (2.0, 5),
}


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/annealing.png"))
    epochs = range(EPOCHS + 1)
    series = [
        Curve(
            name,
            epochs,
            [SMALLEST + (LARGEST - SMALLEST) * annealed(done, EPOCHS, power, warmup) for done in epochs],
        )
        for name, (power, warmup) in SHOWN.items()
    ]
    picture = curves(series, x_label="epochs done", y_label="learning rate")
    parser.parse_args().out.write_bytes(picture)


if __name__ == "__main__":
    main()
