"""The recurrent half of the DARTS space: text, classes of equal cells, networks, the supernet's gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spaces.darts_rnn import DARTSRNN, DARTSRNNConfig, RecurrentGenotype, cross_entropy
from spaces.darts_rnn.dropout import DropoutRates
from spaces.darts_rnn.genotype import ACTIVATIONS, NODES, PUBLISHED, Node
from spaces.darts_rnn.language import Masks, draw_masks
from spaces.darts_rnn.mixing import (
    Node as MixedNode,
)
from spaces.darts_rnn.mixing import (
    mix_by_torch,
    mix_fused,
    through_mix_by_torch,
    through_mix_fused,
)
from spaces.errors import InputError
from spaces.supernet import Relaxation

SPACE = DARTSRNN()
SMALL = DARTSRNNConfig(classes=11, hidden=5, image_size=4)
V1 = PUBLISHED["DARTS_V1"]

genotypes = st.integers(0, 2**32).map(lambda seed: SPACE.sample(np.random.default_rng(seed)))


def tokens(*shape: int) -> Tensor:
    return torch.randint(SMALL.classes, shape, generator=torch.Generator().manual_seed(0))


@given(genotypes)
def test_parse_inverts_print(genotype):
    assert SPACE.parse(str(genotype)) == genotype


def test_published_cells_parse_by_name_and_as_the_authors_print_them():
    text = (
        "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), "
        "('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))"
    )
    assert SPACE.parse(text) == SPACE.parse("DARTS_V2") == PUBLISHED["DARTS_V2"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "cannot be read"),
        ("DARTS_V3", "DARTS_V1, DARTS_V2"),
        ("Genotype(normal=[])", "'normal'"),
        ("Genotype(concat=range(1, 9))", "no field 'recurrent'"),
        (str(V1).replace("('tanh', 2)", "('gelu', 2)"), "'gelu' of node 3"),
        (str(V1).replace("('relu', 0)", "('none', 0)"), "'none' of node 1"),
        (str(V1).replace("('tanh', 2)", "('tanh', 3)"), "predecessor 3 of node 3"),
        (str(V1).replace(", ('relu', 5)", ""), "7 nodes"),
        (str(V1).replace("concat=[1, 2", "concat=[2"), "concat"),
        (str(V1).replace("('tanh', 2)", "'tanh'"), "node 3"),
        ("Genotype(recurrent=open('x'))", "recurrent"),
    ],
)
def test_malformed_text_names_the_bad_part(text, named):
    with pytest.raises(InputError, match=named.replace("(", r"\(")):
        SPACE.parse(text)


@given(genotypes)
@settings(max_examples=10)
def test_neighbours_are_the_52_cells_one_change_away(genotype):
    neighbours = set(SPACE.neighbours(genotype))
    assert len(neighbours) == 52
    for neighbour in neighbours:
        assert SPACE.parse(str(neighbour)) == neighbour
        pairs = zip(genotype.recurrent, neighbour.recurrent, strict=True)
        assert sum(a != b for node in pairs for a, b in zip(*node, strict=True)) == 1


def test_samples_use_every_activation_and_predecessor():
    drawn = [SPACE.sample(np.random.default_rng(seed)) for seed in range(300)]
    for place in range(NODES):
        assert {genotype.recurrent[place].activation for genotype in drawn} == set(ACTIVATIONS)
        assert {genotype.recurrent[place].predecessor for genotype in drawn} == set(range(place + 1))


def renamed(genotype: RecurrentGenotype, rng: np.random.Generator) -> tuple[RecurrentGenotype, list[int]]:
    """The same cell with its nodes in another order, and the old number of each."""
    placed = [0]
    while len(placed) <= NODES:
        ready = [
            number
            for number, node in enumerate(genotype.recurrent, start=1)
            if number not in placed and node.predecessor in placed
        ]
        placed.append(int(rng.choice(ready)))
    nodes = [genotype.recurrent[number - 1] for number in placed[1:]]
    order = tuple(Node(node.activation, placed.index(node.predecessor)) for node in nodes)
    return RecurrentGenotype(order), placed[1:]


@given(genotypes, st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_renamed_nodes_have_one_representative_and_compute_the_same(genotype, seed):
    other, numbers = renamed(genotype, np.random.default_rng(seed))
    representative = SPACE.canonical(genotype, "live")
    assert SPACE.canonical(other, "live") == representative == SPACE.canonical(representative, "all")
    first, second = SPACE.network(genotype, SMALL, 0), SPACE.network(other, SMALL, 0)
    with torch.no_grad():
        for place, number in enumerate(numbers):
            second.cell.nodes[place].weight.copy_(first.cell.nodes[number - 1].weight)
    torch.testing.assert_close(first(tokens(3, 4)), second(tokens(3, 4)))


def test_cells_that_differ_in_a_function_have_different_representatives():
    for neighbour in SPACE.neighbours(V1):
        same = SPACE.canonical(neighbour, "live") == SPACE.canonical(V1, "live")
        outputs = [SPACE.network(genotype, SMALL, 0)(tokens(3, 4)) for genotype in (V1, neighbour)]
        assert not same or not torch.equal(*outputs)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (DARTSRNNConfig(), 22_960_000),
        (DARTSRNNConfig(classes=33_278, hidden=700), 33_127_878),
    ],
)
def test_parameters_are_the_published_23_and_33_millions(config, parameters):
    assert SPACE.complexity(V1, config).params == parameters


def test_parameters_are_those_of_the_network():
    counted = sum(parameter.numel() for parameter in SPACE.network(V1, SMALL, 0).parameters())
    assert SPACE.complexity(V1, SMALL).params == counted


def joined(model) -> Tensor:
    """Weights [2 hidden, 2 hidden] of token and state in one matrix, as the authors have them."""
    return torch.cat((model.cell.token.weight.T, model.cell.state.weight.T))


def test_the_network_is_the_published_cell():
    network = SPACE.network(PUBLISHED["DARTS_V2"], SMALL, 3)
    text, state = tokens(4, 6), torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    masks = draw_masks(DropoutRates(token=0.3), SMALL, 6, torch.Generator().manual_seed(2))
    functions = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda x: x}
    weight, hidden, expected = joined(network), state, []
    for row in text:
        read = network.words.decoder.weight[row] * masks.token[row] * masks.embedded
        gate, candidate = (torch.cat((read, hidden * masks.hidden), 1) @ weight).split(5, 1)
        nodes = [hidden + gate.sigmoid() * (candidate.tanh() - hidden)]
        for matrix, (name, source) in zip(network.cell.node_weights(), network.genotype.recurrent, strict=True):
            gate, candidate = ((nodes[source] * masks.hidden) @ matrix.T).split(5, 1)
            nodes.append(nodes[source] + gate.sigmoid() * (functions[name](candidate) - nodes[source]))
        hidden = torch.stack(nodes[1:]).mean(0)
        expected.append((hidden * masks.output) @ network.words.decoder.weight.T + network.words.decoder.bias)
    torch.testing.assert_close(network.read(text, state, masks).logits(), torch.stack(expected))


def test_a_text_read_in_parts_is_the_text_read_at_once():
    network, text = SPACE.network(V1, SMALL, 0), tokens(6, 2)
    whole = network.read(text, network.start(2))
    first = network.read(text[:4], network.start(2))
    second = network.read(text[4:], first.states[-1])
    torch.testing.assert_close(whole.logits(), torch.cat((first.logits(), second.logits())))
    torch.testing.assert_close(network(text.T), whole.logits()[-1])


def test_masks_are_locked_over_places_and_keep_the_mean():
    masks = draw_masks(DropoutRates(), DARTSRNNConfig(hidden=400), 50, torch.Generator().manual_seed(0))
    assert masks.hidden.unique().tolist() == pytest.approx([0, 4 / 3])
    assert masks.output.unique().tolist() == [0, 4]
    for mask in masks:
        assert float(mask.mean()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("rates", [{"output": 1.0}, {"hidden": -0.1}])
def test_impossible_dropout_is_named(rates):
    with pytest.raises(InputError, match=next(iter(rates))):
        DropoutRates(**rates)


@pytest.mark.parametrize("build", [lambda: SPACE.network(V1, SMALL, 0), lambda: supernet()])
def test_images_are_refused(build):
    with pytest.raises(InputError, match="reads tokens"):
        build()(torch.zeros(2, 1, 8, 8))


def test_a_config_for_colour_images_is_refused():
    with pytest.raises(InputError, match="reads text"):
        SPACE.configure(input_channels=3, image_size=32, classes=10)


def supernet(relaxation: Relaxation = Relaxation(), dtype: torch.dtype = torch.float64):  # noqa: B008
    """A supernet whose weights and alphas are large enough to matter."""
    made = SPACE.supernet(SMALL, relaxation, 0).to(dtype)
    with torch.no_grad():
        for weight in made.weights():
            weight.mul_(20)
        made.architecture["recurrent"].copy_(torch.randn(36, 5, generator=torch.Generator().manual_seed(4)))
    return made


def plain_states(model, embedded: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
    """The supernet's recurrence as rnn/model_search.py writes it, for plain autograd."""
    weight, width, states = joined(model), hidden.shape[1], []
    (mixture,) = model.mixtures("recurrent")
    functions = (torch.tanh, torch.relu, torch.sigmoid, lambda x: x)
    for token in embedded:
        gate, candidate = (torch.cat((token, hidden * mask), 1) @ weight).split(width, 1)
        nodes = [F.batch_norm(hidden + gate.sigmoid() * (candidate.tanh() - hidden), None, None, training=True)]
        edges = iter(mixture.operations)
        for matrix in model.cell.node_weights():
            total = torch.zeros_like(hidden)
            for source in nodes:
                gate, candidate = ((source * mask) @ matrix.T).split(width, 1)
                for share, function in zip(next(edges)[1:], functions, strict=True):
                    total = total + share * (source + gate.sigmoid() * (function(candidate) - source))
            nodes.append(F.batch_norm(total, None, None, training=True))
        hidden = torch.stack(nodes[1:]).mean(0)
        states.append(hidden)
    return torch.stack(states)


@pytest.mark.parametrize("weighting", ["softmax", "max-w"])
def test_the_fused_recurrence_and_its_gradient_are_those_of_the_plain_one(weighting):
    model = supernet(Relaxation(weighting=weighting))
    generator = torch.Generator().manual_seed(0)
    embedded = torch.randn(3, 6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    hidden = torch.randn(6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    mask = torch.bernoulli(torch.full((6, 5), 0.75, dtype=torch.float64), generator=generator) / 0.75
    direction = torch.randn(3, 6, 5, dtype=torch.float64, generator=generator)
    inputs = [embedded, hidden, *model.alphas(), *model.cell.parameters()]
    fused = model._states(embedded, hidden, Masks(mask, mask, mask, mask))
    plain = plain_states(model, embedded, hidden, mask)
    torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad((states * direction).sum(), inputs) for states in (fused, plain)]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


def test_the_mixture_for_other_devices_is_the_one_for_cpus():
    generator = torch.Generator().manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    before, weights, product, to_sum = made(3, 4, 5), made(3, 5), made(3, 4, 10), made(4, 5)
    results = []
    undefined = [torch.full(shape, torch.nan, dtype=torch.float64) for shape in ((4, 5), (1, 5))]
    for forward, backward in ((mix_fused, through_mix_fused), (mix_by_torch, through_mix_by_torch)):
        node = MixedNode(before, weights, product, product.sigmoid(), *undefined)
        forward(node)
        gradients = torch.ones(3, 4, 5).double(), torch.empty(3, 4, 10).double(), torch.ones(3, 5).double()
        backward(node, to_sum, *gradients)
        results.append((node.output.clone(), node.scale.clone(), *gradients))
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain)


def test_a_search_sees_what_is_not_a_number():
    model = supernet(dtype=torch.float32)
    with torch.no_grad():
        model.cell.nodes[3].weight[0, 0] = torch.nan
    assert model(tokens(4, 3)).isnan().any()


def test_the_strongest_activation_of_every_node_is_derived_but_never_none():
    model = supernet()
    alphas = torch.zeros(36, 5)
    alphas[:, 0] = 9
    rows = {1: 0, 2: 1, 3: 3, 4: 6, 5: 10, 6: 15, 7: 21, 8: 28}
    for number, (activation, predecessor) in enumerate(V1.recurrent, start=1):
        alphas[rows[number] + predecessor, 1 + ACTIVATIONS.index(activation)] = 3
    with torch.no_grad():
        model.architecture["recurrent"].copy_(alphas)
    assert model.derive() == V1
    assert model.skip_edges(V1) == [5]


def test_softmax_is_compared_not_raw_alphas():
    model = supernet()
    alphas = torch.zeros(36, 5)
    alphas[1] = torch.tensor([9.0, 10, 10, 10, 11])
    alphas[2] = torch.tensor([0.0, 5, 0, 0, 0])
    with torch.no_grad():
        model.architecture["recurrent"].copy_(alphas)
    assert model.derive().recurrent[1] == Node("tanh", 1)


@pytest.mark.parametrize("relaxation", [Relaxation(partial=4), Relaxation(shared=False)])
def test_relaxations_of_images_are_refused(relaxation):
    with pytest.raises(InputError, match="darts-rnn has no"):
        SPACE.supernet(SMALL, relaxation, 0)


def test_the_supernet_starts_from_the_standalone_weights():
    ours = dict(SPACE.supernet(SMALL, Relaxation(), 5).named_parameters())
    for name, parameter in SPACE.network(V1, SMALL, 5).named_parameters():
        assert torch.equal(ours[name], parameter)
        assert float(parameter.detach().abs().max()) <= 0.04


@pytest.mark.parametrize("slice_floats", [1, 25, 1000])
def test_the_loss_by_slices_and_its_gradient_are_those_of_the_cross_entropy(slice_floats, monkeypatch):
    monkeypatch.setattr(cross_entropy, "SLICE_FLOATS", slice_floats)
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((3, 4, 5), (11, 5), (11,))
    )
    targets = tokens(3, 4)
    loss, right = cross_entropy.next_token_loss(states, targets, weight, bias)
    logits = F.linear(states, weight, bias)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(loss, expected)
    assert int(right) == int((logits.argmax(-1) == targets).sum())
    inputs = (states, weight, bias)
    for ours, plain in zip(
        torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * expected, inputs), strict=True
    ):
        torch.testing.assert_close(ours, plain)


def test_the_loss_of_a_token_thought_impossible_is_finite():
    weight = torch.tensor([[200.0], [-200.0]])
    loss, _ = cross_entropy.next_token_loss(torch.ones(1, 1), torch.tensor([1]), weight, torch.zeros(2))
    assert float(loss) == pytest.approx(400)
