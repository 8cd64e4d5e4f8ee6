"""Which backend runs which plans."""

import pytest

from harness.backends import choose_backend
from spaces.errors import InputError
from spaces.plan import IMAGES, Convolution, Plan, ReLUCode


def test_auto_takes_torch_where_networks_have_no_plan_and_says_why():
    name, reason = choose_backend("auto", "cpu", [None])
    assert name == "torch"
    assert reason
    assert choose_backend("torch", "cpu", []) == ("torch", None)


def test_native_that_cannot_serve_is_refused_by_reason():
    wide = Plan((3, 8, 8), (Convolution("y", IMAGES, "w", (8, 3, 5, 5)), ReLUCode("y", 1)))
    for device, plans in (("cuda", []), ("cpu", [None]), ("cpu", [wide])):
        with pytest.raises(InputError, match="--backend native: "):
            choose_backend("native", device, plans)


def test_unknown_backend_lists_the_allowed_ones():
    with pytest.raises(InputError, match="unknown backend 'jax'; allowed: auto, native, triton, torch"):
        choose_backend("jax", "cpu", [])
