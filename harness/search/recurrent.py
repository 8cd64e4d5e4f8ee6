"""Differentiable search for a recurrent cell on text (DARTS, rnn/train_search.py), first or second order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.datasets.text import Corpus, columns
from harness.interrupts import deferred_interrupts
from harness.progress import Progress
from harness.records import settings_text
from harness.search.base import SearchJob, SearchMethod
from harness.search.bilevel import first_order_gradient, second_order_gradient
from harness.search.records import SearchContext, SearchEpoch, SearchRecord
from harness.search.table import SearchTable
from harness.training.checkpoint import Checkpoint, Stateful
from harness.training.language import TextRecipe, evaluate_text, masks_of, next_token_loss, penalised
from harness.training.trainer import Tally, set_learning_rate
from spaces.darts_rnn import DARTSRNN, DARTSRNNConfig
from spaces.darts_rnn.language import DropoutRates, Masks
from spaces.darts_rnn.supernet import RecurrentSupernet
from spaces.errors import InputError, Stopped
from spaces.supernet import Relaxation, Weighting
from spaces.weights import keyed_generator

RULE = "last epoch"


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
    """The authors' search, some of its recipe replaced. Raises `InputError` for a setting it does not have."""
    known = [setting.name for setting in fields(RecurrentRecipe) if setting.name not in ("name", "dropout")]
    for setting in settings:
        if setting not in known:
            raise InputError(f"method {name} has no setting --{setting.replace('_', '-')}")
    return RecurrentSearch(replace(RecurrentRecipe(), **settings))


class RecurrentSearch(SearchMethod):
    """A recipe run on a job, an epoch at a time; the same search goes on where it was cut off."""

    def __init__(self, recipe: RecurrentRecipe) -> None:
        self.name = recipe.name
        self.recipe = recipe

    @property
    def steps(self) -> int:
        """Epochs of the whole search."""
        return self.recipe.epochs

    def recipe_text(self) -> str:
        """The recipe."""
        return self.recipe.text()

    def run(self, job: SearchJob, progress: Progress) -> RecurrentRecord:
        """Search to the last epoch; what the store holds is not searched again.

        After every epoch the checkpoint in the job's folder and the store are written, and on Ctrl-C or SIGTERM
        after the step in flight; on CPU a search that was cut off ends with the bits of one that was not.

        Raises:
            InputError: space or data set are not for text, the text is too short for the readers, or a
                checkpoint is of another search.
            Stopped: the loss is no longer finite; the checkpoint is that of the last good epoch.
        """
        corpus = corpus_of(job)
        table = SearchTable(job.store)
        number = table.context(self._context(job))
        known = table.result(number)
        if known:
            progress.advance(self.steps)
            return self._record(corpus, table.epochs(number))
        running = _RunningSearch(self.recipe, job, corpus)
        epochs = running.resume()
        table.add_epochs(number, epochs)
        progress.advance(len(epochs))
        with deferred_interrupts() as interrupts:
            while len(epochs) < self.steps:
                epochs.append(running.next_epoch(epochs, lambda: interrupts.asked))
                table.add_epochs(number, epochs[-1:])
                progress.advance()
        found = self._record(corpus, epochs)
        table.add_result(number, SearchRecord(*astuple(found)[: len(fields(SearchRecord))]))
        running.checkpoint.remove()
        return found

    def _record(self, corpus: Corpus, epochs: Sequence[SearchEpoch]) -> RecurrentRecord:
        last = epochs[-1]
        return RecurrentRecord(
            last.architecture,
            RULE,
            last.epoch,
            f"all {last.epoch} epochs are done",
            last.seconds,
            math.exp(last.validation_loss),
            corpus.unigram_perplexity(corpus.tokens.validation),
        )

    def _context(self, job: SearchJob) -> SearchContext:
        return SearchContext(
            space=job.space.name,
            method=self.name,
            recipe=self.recipe_text(),
            settings=settings_text(job.config),
            seed=job.seed,
            dataset=job.dataset.name,
            data=job.dataset.fingerprint,
            device=job.device,
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


class Part(NamedTuple):
    """Part of a text: tokens and the next ones, int64 [T, B], the state before, [B, hidden], and the masks."""

    tokens: Tensor
    targets: Tensor
    hidden: Tensor
    masks: Masks


class PartLoss:
    """Loss of the supernet on one part, the same on every call; `after` is the state that the last call reached.

    It is multiplied by `scale`, which stands for the clipping of its gradient.
    """

    def __init__(self, supernet: RecurrentSupernet, part: Part) -> None:
        self._supernet = supernet
        self._part = part
        self.after = part.hidden
        self.scale = 1.0

    def __call__(self) -> Tensor:
        """Mean cross entropy in nats, penalties left out, times `scale`."""
        part = self._part
        reading = self._supernet.read(part.tokens, part.hidden, part.masks)
        self.after = reading.states[-1].detach()
        return self.scale * next_token_loss(reading, part.targets)


class Learned(NamedTuple):
    """The training part before the weights moved: loss, logits [T * B, classes], states after both parts."""

    loss: Tensor
    logits: Tensor
    hidden: Tensor
    validation_hidden: Tensor


class RecurrentStep:
    """A supernet and the optimisers of its weights and of its alphas: one step moves both."""

    def __init__(self, supernet: RecurrentSupernet, recipe: RecurrentRecipe) -> None:
        self._supernet = supernet
        self._recipe = recipe
        self._weights = supernet.weights()
        self._alphas = supernet.alphas()
        self.weight_optimiser = torch.optim.SGD(
            self._weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.alpha_optimiser = torch.optim.Adam(
            self._alphas, lr=recipe.alpha_learning_rate, weight_decay=recipe.alpha_weight_decay
        )

    def __call__(self, training: Part, validation: Part) -> Learned:
        """Move the alphas, then the weights; the learning rate is that of the training part's length."""
        rate = self._recipe.learning_rate * len(training.tokens) / self._recipe.length
        set_learning_rate(self.weight_optimiser, rate)
        validation_loss = PartLoss(self._supernet, validation)
        gradient = self._alpha_gradient(PartLoss(self._supernet, training), validation_loss)
        for alpha, part in zip(self._alphas, gradient, strict=True):
            alpha.grad = part
        self.alpha_optimiser.step()

        reading = self._supernet.read(training.tokens, training.hidden, training.masks)
        loss = next_token_loss(reading, training.targets)
        self.weight_optimiser.zero_grad()
        penalised(loss, reading, self._recipe).backward(inputs=self._weights)  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights, self._recipe.clip)
        self.weight_optimiser.step()
        logits = reading.logits.detach().flatten(0, 1)
        return Learned(loss.detach(), logits, reading.states[-1].detach(), validation_loss.after)

    def _alpha_gradient(self, training_loss: PartLoss, validation_loss: PartLoss) -> list[Tensor]:
        if self._recipe.order == 1:
            with frozen(self._weights):
                return first_order_gradient(validation_loss, self._alphas)
        training_loss.scale = self._clipping(training_loss)
        return second_order_gradient(training_loss, validation_loss, self._alphas, self.weight_optimiser)

    def _clipping(self, loss: PartLoss) -> float:
        """By how much the gradient of the weights is shortened: the virtual step must be as short as the real one.

        The authors clip in the virtual step too (rnn/architect.py). Taken as a constant factor of the loss, it
        stands where it belongs in the product with the second derivative as well.
        """
        norm = float(nn.utils.get_total_norm(torch.autograd.grad(loss(), self._weights)))
        return min(1.0, self._recipe.clip / norm) if norm else 1.0


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """What runs inside keeps nothing for gradients of these parameters, and computes none."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class _Unfinished:
    """What a checkpoint holds beside supernet, optimisers and epochs: the epoch that was cut off, and seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tally = Tally()
        self.hidden: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "hidden": self.hidden, **self.tally.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.hidden = state.pop("seconds"), state.pop("hidden")
        self.tally.load_state_dict(state)


class _RunningSearch:
    """Supernet, optimisers, text and checkpoint of one search."""

    def __init__(self, recipe: RecurrentRecipe, job: SearchJob, corpus: Corpus) -> None:
        self._started = time.perf_counter()
        self._recipe = recipe
        self._seed = job.seed
        self._device = torch.device(job.device)
        self._config: DARTSRNNConfig = job.config  # type: ignore[assignment]
        self._training = columns(corpus.tokens.train, recipe.batch_size, "training").to(self._device)
        self._validation = columns(corpus.tokens.validation, recipe.batch_size, "validation").to(self._device)
        relaxation = Relaxation(weighting=recipe.weighting)
        self.supernet = RecurrentSupernet(self._config, relaxation, job.seed).to(self._device)
        self._step = RecurrentStep(self.supernet, recipe)
        self._unfinished = _Unfinished()
        self._parts: dict[str, Stateful] = {
            "supernet": self.supernet,
            "weight_optimiser": self._step.weight_optimiser,
            "alpha_optimiser": self._step.alpha_optimiser,
            "unfinished": self._unfinished,
        }
        path = job.folder / f"{recipe.name}-{job.space.name}-seed{job.seed}.pt"
        self.checkpoint = Checkpoint(path, _belongs_to(recipe, job), "search")

    def resume(self) -> list[SearchEpoch]:
        """Epochs of the checkpoint, everything put as it was after them; none if there is no checkpoint."""
        epochs = [SearchEpoch(*row) for row in self.checkpoint.load(self._parts)]
        self._started -= self._unfinished.seconds
        self._unfinished.hidden = [hidden.to(self._device) for hidden in self._unfinished.hidden]
        return epochs

    def next_epoch(self, epochs: list[SearchEpoch], interrupted: Callable[[], bool]) -> SearchEpoch:
        """Run, or finish, the epoch after these and write the checkpoint.

        Raises:
            KeyboardInterrupt: `interrupted` says so after a step; the checkpoint holds all up to that step.
            Stopped: the loss is no longer finite.
        """
        number = len(epochs) + 1
        unfinished, tally = self._unfinished, self._unfinished.tally
        if not tally.batches:
            start = self.supernet.start(self._recipe.batch_size)
            unfinished.hidden = [start, start]
        for index, (part, seeds) in enumerate(self._places(number)):
            if index < tally.batches:
                continue
            if interrupted():
                self._save(epochs)
                raise KeyboardInterrupt
            # The validation text is shorter: it begins again within an epoch of the training text.
            first = part.start % (len(self._validation) - 1)
            training = self._part(self._training, part, 0, seeds[0])
            length = range(first, min(first + self._recipe.length, len(self._validation) - 1))
            learned = self._step(training, self._part(self._validation, length, 1, seeds[1]))
            unfinished.hidden = [learned.hidden, learned.validation_hidden]
            tally.add(learned.loss, learned.logits, training.targets.flatten())
        train_loss, train_accuracy = tally.means()
        validation_loss, validation_accuracy = evaluate_text(self.supernet, self._validation, self._recipe.length)
        if not math.isfinite(train_loss) or not math.isfinite(validation_loss):
            raise Stopped(
                f"the loss is no longer finite in epoch {number}; the {len(epochs)} epochs before it are kept"
                + (f" in {self.checkpoint.path}" if epochs else "")
            )
        architecture = self.supernet.derive()
        epoch = SearchEpoch(
            epoch=number,
            architecture=str(architecture),
            skips=len(self.supernet.skip_edges(architecture)),
            searching=True,
            operations=self.supernet.operations,
            learnable=self.supernet.learnable,
            alphas={kind: alphas.tolist() for kind, alphas in self.supernet.architecture.items()},
            learning_rate=self._recipe.learning_rate,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=time.perf_counter() - self._started,
        )
        tally.clear()
        self._save([*epochs, epoch])
        return epoch

    def _places(self, number: int) -> Iterator[tuple[range, list[int]]]:
        """The places of every part of an epoch, and the seeds of its masks and of the validation part's."""
        rng = keyed_generator(self._seed, f"search epoch {number}")
        for part in self._recipe.parts(len(self._training), rng):
            yield part, rng.integers(2**63, size=2).tolist()

    def _part(self, text: Tensor, places: range, which: int, seed: int) -> Part:
        """A part of the training text (`which` 0) or of the validation text (1)."""
        return Part(
            text[places.start : places.stop],
            text[places.start + 1 : places.stop + 1],
            self._unfinished.hidden[which],
            masks_of(self._recipe, self._config, text.shape[1], seed, self._device),
        )

    def _save(self, epochs: list[SearchEpoch]) -> None:
        self._unfinished.seconds = time.perf_counter() - self._started
        self.checkpoint.save(self._parts, [astuple(epoch) for epoch in epochs])


def _belongs_to(recipe: RecurrentRecipe, job: SearchJob) -> dict[str, str | int]:
    """What a checkpoint must agree with, in parts, so that the first difference is a setting and not a text."""
    settings = {
        "space": job.space.name,
        "seed": job.seed,
        "data": job.dataset.fingerprint,
        **asdict(job.config),
        **asdict(recipe),
        "device": job.device,
    }
    return {name: value if isinstance(value, int) else str(value) for name, value in settings.items()}
