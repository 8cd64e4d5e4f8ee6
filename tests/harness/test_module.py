"""Scores of any torch module: every form of rectifier counted right, the module left as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from harness.backends.module import module_kernel
from harness.scorers.naswot import NO_RELU
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201, NASBench201Config

IMAGES = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
MAP = 12 * 12


class Net(nn.Module):
    """A convolution to 4 channels, then `body` on the map."""

    def __init__(self, body):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.body = body

    def forward(self, x):
        return self.body(self.conv(x))


def seeded(make):
    torch.manual_seed(0)
    return make()


def units(network, images=IMAGES):
    """Number of units counted: the diagonal of K, since an image agrees with itself everywhere."""
    kernel = module_kernel(network, images)
    return 0 if kernel is None else int(kernel[0, 0])


FORMS = {
    "module": nn.ReLU(),
    "in-place module": nn.ReLU(inplace=True),
    "function": F.relu,
    "torch function": torch.relu,
    "method": lambda x: x.relu(),
    "in-place method": lambda x: x.clone().relu_(),
    "in-place function": lambda x: F.relu(x, inplace=True),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "ReLU6": nn.ReLU6(),
    "functional relu6": F.relu6,
    "leaky": nn.LeakyReLU(0.1),
    "PReLU": nn.PReLU(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_rectifier_counts_once(form):
    network = seeded(lambda: Net(FORMS[form] if isinstance(FORMS[form], nn.Module) else Body(FORMS[form])))
    plain = seeded(lambda: Net(nn.ReLU()))
    assert units(network) == 4 * MAP
    assert (module_kernel(network, IMAGES) == module_kernel(plain, IMAGES)).all()


class Body(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("function", [torch.sigmoid, F.gelu, F.silu, lambda x: x.clamp(-1, 1), F.elu, torch.abs])
def test_other_activations_do_not_count(function):
    assert units(Net(Body(function))) == 0


def test_a_module_called_twice_counts_twice():
    relu = nn.ReLU()
    assert units(Net(nn.Sequential(relu, nn.BatchNorm2d(4), relu))) == 2 * 4 * MAP


def test_in_place_use_after_a_relu_changes_nothing():
    plain = Body(lambda x: F.relu(F.relu(x - 0.1) * 2 + 1))
    in_place = Body(lambda x: F.relu(F.relu(x - 0.1, inplace=True).mul_(2).add_(1), inplace=True))
    networks = [seeded(lambda body=body: Net(body)) for body in (plain, in_place)]
    assert units(networks[0]) == 2 * 4 * MAP
    assert (module_kernel(networks[0], IMAGES) == module_kernel(networks[1], IMAGES)).all()


def test_relus_inside_torchscript_count():
    script = torch.jit.script(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())))
    assert units(script) == 4 * MAP


class WithDeadBranch(nn.Module):
    """A ReLU whose output is thrown away, and one of an auxiliary head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        F.relu(x * 2)
        return F.relu(x).mean((2, 3)), F.relu(x - 1).mean((2, 3))


def test_only_what_the_main_output_depends_on_counts():
    assert units(WithDeadBranch()) == 4 * MAP


def test_batch_statistics_are_used_whatever_the_mode_and_the_module_is_left_as_it_was():
    network = seeded(
        lambda: Net(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.ReLU()))
    )
    network.eval()
    network.body[0].train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    first = module_kernel(network, IMAGES)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    network.train()
    assert (module_kernel(network, IMAGES) == first).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_pixel_by_pixel_grey_ones_too(channels):
    seen = []

    def body(x):
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return F.max_pool2d(F.relu(x), 3)

    network = seeded(lambda: nn.Sequential(nn.Conv2d(channels, 4, 3), Body(body)))
    assert module_kernel(network, torch.rand(8, channels, 12, 12)) is not None
    assert seen == [True]


def test_dropout_is_drawn_from_the_seed_and_the_global_generator_is_left_alone():
    network = Net(nn.Sequential(nn.Dropout(0.5), nn.Conv2d(4, 4, 3), nn.ReLU()))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = module_kernel(network, IMAGES, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert (module_kernel(network, IMAGES, seed=0) == first).all()
    assert not (module_kernel(network, IMAGES, seed=1) == first).all()


def test_a_rectifier_whose_first_axis_is_not_the_batch_is_refused():
    network = Net(Body(lambda x: F.relu(x.permute(1, 0, 2, 3)).mean((0, 2, 3))))
    with pytest.raises(InputError, match=r"shape \(4, 8, 12, 12\), whose first axis is not the batch of 8"):
        module_kernel(network, IMAGES)


def test_a_network_that_cannot_take_the_images_is_refused_by_name():
    with pytest.raises(InputError, match=r"network Net failed on images of shape \(8, 1, 12, 12\)"):
        module_kernel(Net(nn.ReLU()), IMAGES[:, :1])


def test_plan_and_module_give_the_same_kernel():
    space, config = NASBench201(), NASBench201Config(channels=4, cells=1, image_size=12)
    cell = space.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|")
    from harness.backends.torch_backend import TorchBackend

    of_plan = TorchBackend(torch.device("cpu"), 3).kernel(space.plan(cell, config, "live"), IMAGES)
    of_module = module_kernel(space.network(cell, config, seed=3), IMAGES)
    assert (of_plan == of_module).mean() > 0.99
    assert abs(of_plan - of_module).max() <= 4


def test_score_network_scores_a_users_network():
    network = Net(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4 * MAP, 10)))
    score = harness.score_network(network, IMAGES)
    assert score.value is not None
    assert harness.score_network(network, IMAGES, scorer="naswot-published") == score
    assert harness.score_network(Net(nn.GELU()), IMAGES).reason == NO_RELU


def test_scorers_that_read_labels_ask_for_them():
    network = Net(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4 * MAP, 10)))
    labels = torch.arange(len(IMAGES)) % 10
    assert harness.score_network(network, IMAGES, "snip", labels=labels).value > 0
    with pytest.raises(
        InputError, match=f"scorer snip reads labels: give labels, one for each of the {len(IMAGES)}"
    ):
        harness.score_network(network, IMAGES, "snip")
    with pytest.raises(InputError, match="need as many labels"):
        harness.score_network(network, IMAGES, "snip", labels=labels[:3])


@pytest.mark.parametrize("words", ["not enough memory", "can't allocate memory"])
def test_running_out_of_memory_is_not_a_reason_but_an_error(words):
    def exhausted(x):
        raise RuntimeError(f"DefaultCPUAllocator: {words}: you tried to allocate 1 bytes")

    with pytest.raises(MemoryError, match=words):
        module_kernel(Net(Body(exhausted)), IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:1], "at least 2 images"),
        (torch.cat([IMAGES, IMAGES[:3]]), "3 of 11 images"),
        (IMAGES[0, 0, 0], "B x"),
    ],
)
def test_score_network_refuses_a_batch_that_cannot_have_a_score(images, message):
    with pytest.raises(InputError, match=message):
        harness.score_network(Net(nn.ReLU()), images)


def test_views_that_need_the_usual_order_of_memory_are_scored_too():
    viewed = seeded(lambda: Net(Body(lambda x: F.relu(x).view(len(x), -1))))
    reshaped = seeded(lambda: Net(Body(lambda x: F.relu(x).reshape(len(x), -1))))
    assert (module_kernel(viewed, IMAGES) == module_kernel(reshaped, IMAGES)).all()
