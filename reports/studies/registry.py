"""Where each study is, by name, in the order of the page: a new one is a line here."""

from __future__ import annotations

MODULES = {
    "kernels": "reports.studies.kernels",
    "scatter": "reports.studies.scatter",
    "robustness": "reports.studies.robustness",
    "training": "reports.studies.training",
    "search": "reports.studies.search",
    "twelve-epochs": "reports.studies.twelve_epochs",
    "averages": "reports.studies.averages",
    "peers": "reports.studies.peers",
    "collapse": "reports.studies.collapse",
    "hypercuboid": "reports.studies.hypercuboid",
    "sharp-ablation": "reports.studies.sharp_ablation",
    "hierarchical": "reports.studies.hierarchical",
}

OF_THE_ARTICLE = (
    "kernels",
    "scatter",
    "robustness",
    "training",
    "search",
    "twelve-epochs",
    "averages",
    "peers",
)
"""What `tfnas study all` runs: the questions of the NASWOT article. The others search, for hours."""
