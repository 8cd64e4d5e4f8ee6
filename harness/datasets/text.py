"""Texts as data sets: official files of one split each, or an embedded text; vocabulary, and columns to read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets.base import Dataset, Images, short_hash
from spaces.base import Reading
from spaces.errors import InputError

UNKNOWN, END = "<unk>", "<eos>"
"""The word for all that is not in the vocabulary, and the end of a line (DARTS, rnn/data.py)."""

SEQUENCE_LENGTH = 35
"""Tokens of a sequence that is scored, if not told otherwise: the authors' length of truncated backpropagation."""

UNKNOWN_LIMIT = 0.5
"""A text of which more than this share is unknown says nothing about a model."""

SPLITS = ("train", "valid", "test")
FILE_NAMES = {
    "ptb": ("ptb.{}.txt", "{}.txt"),
    "wikitext2": ("wiki.{}.tokens", "{}.txt"),
}
"""Names of the official files of each corpus, and of the copies that the DARTS authors read."""

Tokens = NDArray[np.int64]


class TextSplits(NamedTuple):
    """Tokens of each split, int64 [n]."""

    train: Tokens
    validation: Tokens
    test: Tokens


@dataclass(frozen=True, eq=False)
class Corpus(Dataset):
    """A text as a data set: `classes` is the vocabulary, in the order of the training text.

    `train` and `test` hold sequences of `image_size` tokens (`fetch` gives int64 [k, T]), each labelled by the
    token that follows, so that scorers of labelled images take them; `tokens` is the text as a language model
    reads it. `unknown` is the share of validation and test tokens replaced by `<unk>`, `origin` which files are
    which split.
    """

    kind: ClassVar[Reading] = "text"

    tokens: TextSplits
    unknown: float
    origin: str

    def normalise(self, images: NDArray[np.int64]) -> torch.Tensor:
        """Tokens as they are."""
        return torch.from_numpy(images)

    def unigram_perplexity(self, tokens: Tokens) -> float:
        """Perplexity of a text if every token is drawn by its share of the training text, whatever precedes."""
        counts = np.bincount(self.tokens.train, minlength=len(self.classes))
        return float(np.exp(-np.log(counts[tokens] / counts.sum()).mean()))


def load_corpus(name: str, path: Path, length: int | None) -> Corpus:
    """The corpus `name` ("ptb" or "wikitext2") from the folder `path`, for sequences of `length` tokens.

    Where the folder has no training file, the validation file trains, and the test file is cut in two halves:
    the first validates, the second tests.

    Raises:
        InputError: a file is missing, empty or not text; see also `make_corpus`.
    """
    pattern = next((pattern for pattern in FILE_NAMES[name] if (path / pattern.format("test")).is_file()), None)
    if pattern is None:
        expected = " or ".join(pattern.format("test") for pattern in FILE_NAMES[name])
        raise InputError(f"{name}:{path} has no file {expected}; it needs one file a split")
    train, valid, test = (path / pattern.format(split) for split in SPLITS)
    if train.is_file():
        origin = f"{train.name} trains, {valid.name} validates, {test.name} tests"
        return make_corpus(f"{name}:{path}", [read_words(file) for file in (train, valid, test)], origin, length)
    tested = read_words(test)
    half = len(tested) // 2
    origin = f"no {train.name}: {valid.name} trains, the halves of {test.name} validate and test"
    return make_corpus(f"{name}:{path}", [read_words(valid), tested[:half], tested[half:]], origin, length)


def load_embedded(length: int | None) -> Corpus:
    """scikit-learn's descriptions of its data sets, about 10,000 words of English, in lower case.

    Of ten paragraphs eight train, one validates and one tests; words that the training text has only once are
    `<unk>` in it, so that a model can learn what an unknown word looks like.
    """
    splits: list[list[str]] = [[], [], []]
    folder = files("sklearn.datasets.descr")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".rst"):
            for number, paragraph in enumerate(re.split(r"\n\s*\n", file.read_text("utf-8").lower())):
                words = re.findall(r"\w+|[^\w\s]", paragraph)
                splits[max(0, number % 10 - 7)] += [*words, END] if words else []
    seen = Counter(splits[0])
    splits[0] = [word if seen[word] > 1 else UNKNOWN for word in splits[0]]
    return make_corpus("text", splits, "8 of 10 paragraphs train, one validates, one tests", length)


def read_words(path: Path) -> list[str]:
    """Words between blanks, and the end of every line. Raises `InputError` if there are none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"no file {path}; a corpus needs one file a split") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
    if not any(line.strip() for line in lines):
        raise InputError(f"{path} is empty; expected text, words between blanks")
    return [word for line in lines for word in (*line.split(), END)]


def make_corpus(name: str, splits: Sequence[Sequence[str]], origin: str, length: int | None) -> Corpus:
    """The corpus of the words of training, validation and test; its vocabulary is that of the training text.

    The official files have no word outside it, so there it is the authors' vocabulary; elsewhere such words
    are read as `<unk>`.

    Raises:
        InputError: a word is not in the vocabulary and neither is `<unk>`, most words of a split are not in
            it, or a split is shorter than a sequence.
    """
    length = length or SEQUENCE_LENGTH
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(splits[0]))}
    numbered = []
    unknown = []
    for split, words in zip(("training", "validation", "test"), splits, strict=True):
        if len(words) <= length:
            raise InputError(
                f"the {split} text of {name} has {len(words)} tokens; a sequence needs {length} and one more"
            )
        foreign = [word for word in words if word not in vocabulary]
        if foreign and UNKNOWN not in vocabulary:
            raise InputError(
                f"{foreign[0]!r} in the {split} text of {name} is not in the vocabulary of its training text, "
                f"which has no {UNKNOWN} for it"
            )
        if len(foreign) > UNKNOWN_LIMIT * len(words):
            raise InputError(
                f"{100 * len(foreign) / len(words):.0f} % of the {split} text of {name} is not in the vocabulary "
                f"of its training text, {foreign[0]!r} first: they are not of one kind"
            )
        unknown.append(len(foreign))
        fallback = vocabulary.get(UNKNOWN, -1)
        numbered.append(np.array([vocabulary.get(word, fallback) for word in words], np.int64))
    tokens = TextSplits(*numbered)
    return Corpus(
        name=name,
        classes=tuple(vocabulary),
        train=_sequences(tokens.train, length),
        test=_sequences(tokens.test, length),
        mean=(),
        std=(),
        flip=False,
        channels=1,
        image_size=length,
        fingerprint=short_hash("\n".join(vocabulary).encode(), *(part.astype("<i8").tobytes() for part in tokens)),
        tokens=tokens,
        unknown=sum(unknown) / (len(tokens.validation) + len(tokens.test)),
        origin=origin,
    )


def _sequences(tokens: Tokens, length: int) -> Images:
    """Sequences one after another, each with the token that follows."""
    count = (len(tokens) - 1) // length
    rows = tokens[: count * length].reshape(count, length)
    return Images(tokens[length : count * length + 1 : length], lambda chosen: rows[chosen])


def columns(tokens: Tokens, batch_size: int, split: str) -> torch.Tensor:
    """The text cut into `batch_size` parts of one length, int64 [places, batch]; what is left over goes.

    Raises:
        InputError: a part would have no token with one that follows; `split` names the text.
    """
    places = len(tokens) // batch_size
    if places < 2:
        raise InputError(
            f"batch_size must be at most {len(tokens) // 2} for the {len(tokens)} tokens of the {split} text, "
            f"not {batch_size}"
        )
    return torch.from_numpy(tokens[: places * batch_size].reshape(batch_size, places).T.copy())
