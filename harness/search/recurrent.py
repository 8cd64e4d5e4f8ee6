"""Differentiable search for a recurrent cell on text (DARTS, rnn/train_search.py), first or second order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.datasets.text import Corpus, columns
from harness.progress import Progress
from harness.search.base import SearchJob
from harness.search.epochs import EpochSearch, Learned, RunningSearch
from harness.search.records import SearchEpoch, SearchRecord
from harness.search.recurrent_step import Part, RecurrentStep
from harness.search.table import SearchTable
from harness.training.language import evaluate_text, masks_of
from harness.training.text_recipes import TextRecipe, text_settings
from spaces.darts_rnn import DARTSRNN, DARTSRNNConfig
from spaces.darts_rnn.dropout import DropoutRates
from spaces.errors import InputError
from spaces.supernet import Relaxation, Weighting
from spaces.weights import keyed_generator


@dataclass(frozen=True)
class RecurrentRecipe(TextRecipe):
    """How the weights and the alphas are trained; the defaults are those of the authors' search.

    `order` 1 takes the gradient of the alphas at the weights as they are, 2 after one virtual step. Alphas move
    by Adam; `weighting` is how activations are mixed. The supernet is validated by as many readers as train it,
    since its batch norms take the statistics of the batch.

    Raises:
        InputError: a value out of its range.
    """

    name: str = "darts-rnn"
    epochs: int = 50
    batch_size: int = 256
    jitter: float = 0.0
    weight_decay: float = 5e-7
    dropout: DropoutRates = field(default_factory=DropoutRates)
    order: int = 1
    alpha_learning_rate: float = 3e-3
    alpha_weight_decay: float = 1e-3
    weighting: Weighting = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2):
            raise InputError(f"order of a search must be 1 or 2, not {self.order}")
        if not 0 < self.alpha_learning_rate < math.inf:
            raise InputError(f"alpha_learning_rate of a search must be above 0, not {self.alpha_learning_rate}")
        if self.batch_size < 2:
            raise InputError(f"batch_size of a search must be at least 2 for batch norm, not {self.batch_size}")


@dataclass(frozen=True)
class RecurrentRecord(SearchRecord):
    """What a search on text found. Perplexities of the validation text: the supernet's, never to be put beside a
    trained network's, and that of drawing every token by its share of the training text."""

    validation_perplexity: float
    unigram_perplexity: float


def recurrent_search(name: str, settings: dict[str, Any]) -> RecurrentSearch:
    """The authors' search, some of its recipe replaced. Raises `InputError` for a setting it does not have.

    `dropout` is one rate instead of the authors' many; `tensorboard` writes the curves.
    """
    curves = settings.pop("tensorboard", False)
    given = text_settings(RecurrentRecipe, settings, f"method {name}")
    return RecurrentSearch(replace(RecurrentRecipe(), **given), curves=curves)


class RecurrentSearch(EpochSearch):
    """A recipe run on a text; see `EpochSearch.run`."""

    def __init__(self, recipe: RecurrentRecipe, *, curves: bool = False) -> None:
        super().__init__(recipe.name, curves=curves)
        self.recipe = recipe

    @property
    def steps(self) -> int:
        """Epochs of the whole search."""
        return self.recipe.epochs

    def recipe_text(self) -> str:
        """The recipe."""
        return self.recipe.text()

    def start(self, job: SearchJob) -> RunningSearch:
        """Supernet and optimisers, and the text."""
        return _TextSearch(self.recipe, job)

    def run(self, job: SearchJob, progress: Progress) -> RecurrentRecord:
        """Search to the last epoch, and say how good the supernet was.

        Raises:
            InputError: space or data set are not for text, or the text is too short for the readers.
        """
        corpus = corpus_of(job)
        found = super().run(job, progress)
        table = SearchTable(job.store)
        last = table.epochs(table.context(self.context(job)))[-1]
        unigram = corpus.unigram_perplexity(corpus.tokens.validation)
        return RecurrentRecord(
            **asdict(found), validation_perplexity=math.exp(last.validation_loss), unigram_perplexity=unigram
        )


def corpus_of(job: SearchJob) -> Corpus:
    """The text of a job. Raises `InputError` if its space or its data set are not for text."""
    if not isinstance(job.space, DARTSRNN):
        raise InputError(f"this search is for space darts-rnn, not {job.space.name}")
    if not isinstance(job.dataset, Corpus):
        raise InputError(
            f"space darts-rnn reads text, not {job.dataset.name}: give --dataset text, ptb:PATH or wikitext2:PATH"
        )
    return job.dataset


class _TextSearch(RunningSearch):
    """A supernet on one text that moves its weights, and another that moves the alphas."""

    def __init__(self, recipe: RecurrentRecipe, job: SearchJob) -> None:
        corpus = corpus_of(job)
        self._recipe = recipe
        self._seed = job.seed
        self._device = torch.device(job.device)
        self._config: DARTSRNNConfig = job.config  # type: ignore[assignment]
        self._training = columns(corpus.tokens.train, recipe.batch_size, "training").to(self._device)
        self._validation = columns(corpus.tokens.validation, recipe.batch_size, "validation").to(self._device)
        supernet = DARTSRNN().supernet(self._config, Relaxation(weighting=recipe.weighting), job.seed)
        self._model = supernet.to(self._device)
        self._step = RecurrentStep(self._model, recipe)
        super().__init__(recipe.name, job, self._model, self._step, asdict(recipe))

    def resume(self) -> list[SearchEpoch]:
        """Epochs of the checkpoint; the states of a part that is to come are on the device."""
        epochs = super().resume()
        self._unfinished.carried = [hidden.to(self._device) for hidden in self._unfinished.carried]
        return epochs

    def steps(self, number: int) -> Iterator[Callable[[], Learned]]:
        """A step for every part of the training text."""
        if not self._unfinished.tally.batches:
            start = self._model.start(self._recipe.batch_size)
            self._unfinished.carried = [start, start]
        rng = keyed_generator(self._seed, f"search epoch {number}")
        for part in self._recipe.parts(len(self._training), rng):
            yield partial(self._learn, part, *rng.integers(2**63, size=2).tolist())

    def _learn(self, part: range, seed: int, validation_seed: int) -> Learned:
        # The validation text is shorter: it begins again within an epoch of the training text.
        last = len(self._validation) - 1
        first = part.start % last
        other = range(first, min(first + self._recipe.length, last))
        hidden, validation_hidden = self._unfinished.carried
        training = self._part(self._training, part, hidden, seed)
        after = self._step(training, self._part(self._validation, other, validation_hidden, validation_seed))
        self._unfinished.carried = [after.hidden, after.validation_hidden]
        return Learned(after.loss, after.right, training.targets.numel())

    def _part(self, text: Tensor, places: range, hidden: Tensor, seed: int) -> Part:
        masks = masks_of(self._recipe, self._config, text.shape[1], seed, self._device)
        targets = text[places.start + 1 : places.stop + 1]
        return Part(text[places.start : places.stop], targets, hidden, masks)

    def validate(self) -> tuple[float, float]:
        """On the text that moves the alphas."""
        return evaluate_text(self._model, self._validation, self._recipe.length)

    def learning_rate(self, number: int) -> float:
        """The same in every epoch."""
        del number
        return self._recipe.learning_rate
