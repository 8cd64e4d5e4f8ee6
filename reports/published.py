"""Published rank correlations with the accuracy after 200 epochs, to print beside ours."""

from __future__ import annotations

from typing import NamedTuple

from reports.plots import PERCENT


class Published(NamedTuple):
    """Kendall and Spearman as a source prints them; None where it prints only the other."""

    kendall: float | None
    spearman: float | None
    source: str

    def __str__(self) -> str:
        figures = [f"{value:.3g}" if value is not None else "–" for value in (self.kendall, self.spearman)]
        return f"{' / '.join(figures)} ({self.source})"


ZICO, VKDNW, MECO, AZNAS, NASWOT = "ZiCo", "VKDNW", "MeCo", "AZ-NAS", "NASWOT"
SOURCES = (
    "ZiCo: its Table 3; VKDNW: its Table 1; MeCo: by others' reading notes; AZ-NAS: its authors' notebook; "
    "NASWOT: Figure 3, 1,000 cells, validation accuracy"
)
"""Where the figures stand."""

AZNAS_COMBINATION = "log-rank-sum: az_expressivity + az_progressivity + az_trainability + flops"

NASBENCH201: dict[str, dict[str, tuple[Published, ...]]] = {
    "cifar10": {
        "naswot": (Published(0.58, 0.77, ZICO), Published(0.571, 0.762, VKDNW)),
        "naswot-published": (Published(0.574, None, NASWOT),),
        "grad_norm": (Published(0.46, 0.63, ZICO), Published(0.328, 0.438, VKDNW)),
        "snip": (Published(0.46, 0.63, ZICO), Published(0.431, 0.591, VKDNW)),
        "grasp": (Published(0.37, 0.54, ZICO), Published(0.352, 0.505, VKDNW)),
        "fisher": (Published(0.40, 0.55, ZICO),),
        "synflow": (Published(0.54, 0.73, ZICO), Published(0.561, 0.758, VKDNW)),
        "jacov": (Published(0.616, 0.800, VKDNW),),
        "zen": (Published(0.29, 0.38, ZICO), Published(0.102, 0.103, VKDNW)),
        "zico": (Published(0.61, 0.80, ZICO), Published(0.607, 0.802, VKDNW)),
        "gradsign": (Published(0.58, 0.77, ZICO),),
        "flops": (Published(0.54, 0.73, ZICO), Published(0.623, 0.799, VKDNW)),
        "params": (Published(0.57, 0.75, ZICO),),
        "depth": (Published(0.626, 0.767, VKDNW),),
        "ntk": (Published(0.33, 0.44, ZICO),),
        "meco": (Published(None, 0.894, MECO),),
        AZNAS_COMBINATION: (Published(0.741, 0.913, AZNAS), Published(0.712, 0.892, VKDNW)),
    },
    "ImageNet16-120": {
        "naswot": (Published(0.60, 0.78, ZICO), Published(0.605, 0.794, VKDNW)),
        "naswot-published": (Published(0.549, None, NASWOT),),
        "grad_norm": (Published(0.43, 0.58, ZICO), Published(0.310, 0.418, VKDNW)),
        "snip": (Published(0.43, 0.58, ZICO), Published(0.389, 0.521, VKDNW)),
        "grasp": (Published(0.40, 0.56, ZICO), Published(0.359, 0.502, VKDNW)),
        "fisher": (Published(0.37, 0.50, ZICO),),
        "synflow": (Published(0.56, 0.75, ZICO), Published(0.531, 0.719, VKDNW)),
        "jacov": (Published(0.602, 0.779, VKDNW),),
        "zen": (Published(0.29, 0.40, ZICO), Published(0.091, 0.109, VKDNW)),
        "zico": (Published(0.60, 0.79, ZICO), Published(0.587, 0.779, VKDNW)),
        "gradsign": (Published(0.59, 0.78, ZICO),),
        "flops": (Published(0.49, 0.67, ZICO), Published(0.545, 0.718, VKDNW)),
        "params": (Published(0.52, 0.69, ZICO),),
        "depth": (Published(0.623, 0.764, VKDNW),),
        "ntk": (Published(0.46, 0.63, ZICO),),
        "meco": (Published(None, 0.845, MECO),),
        AZNAS_COMBINATION: (Published(0.710, None, "AZ-NAS, by reading notes"), Published(0.673, 0.859, VKDNW)),
    },
}
"""By data set and scorer; Kendall / Spearman."""


def published(space: str, truth: str, scorer: str) -> str:
    """What sources print for a scorer with the accuracy that a column such as test_cifar10_200ep names, or ''."""
    parts = PERCENT.fullmatch(truth)
    if space != "nasbench201" or parts is None or parts["epochs"] != "200":
        return ""
    return "; ".join(map(str, NASBENCH201.get(parts["dataset"], {}).get(scorer, ())))
