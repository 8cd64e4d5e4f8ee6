"""Truth tables: one row per architecture, numeric columns, from Parquet or CSV."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spaces.errors import InputError

ARCHITECTURE_COLUMNS = ("architecture", "arch", "arch_str", "genotype", "network")
"""Names under which the architecture column is accepted, in order of preference."""


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Accuracies and counts of architectures.

    Args:
        path: file the table was read from.
        frame: one row per architecture: `architecture` (text, unique) and numeric columns (float64, int64).
    """

    path: Path
    frame: pd.DataFrame

    def numeric_columns(self) -> tuple[str, ...]:
        """Names of all columns but `architecture`, in the order of the file."""
        return tuple(name for name in self.frame.columns if name != "architecture")

    def column(self, name: str) -> pd.Series:
        """One column as float64, indexed by architecture; missing values are NaN.

        Raises:
            InputError: the table has no numeric column of that name.
        """
        if name not in self.numeric_columns():
            raise InputError(
                f"column: {self.path} has no numeric column {name!r}; it has {', '.join(self.numeric_columns())}"
            )
        return self.frame.set_index("architecture")[name].astype("float64")


def load_truth(path: Path) -> TruthTable:
    """Truth table of a Parquet or CSV file; columns that are not numeric are left out.

    Raises:
        InputError: no such file, not Parquet or CSV, unreadable, no or an unusable architecture column, or no
            numeric column.
    """
    frame, _ = read_table(path)
    return TruthTable(path, frame)


def read_table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Checked frame of a Parquet or CSV file, and notes on what was left out. Raises as `load_truth` does."""
    frame = _read(path)
    found = next((name for name in ARCHITECTURE_COLUMNS if name in frame.columns), None)
    if found is None:
        raise InputError(
            f"truth: {path} has no architecture column; expected one named {', '.join(ARCHITECTURE_COLUMNS)}"
        )
    _check_architectures(path, found, frame[found])
    numbers = frame.drop(columns=found).select_dtypes("number", exclude="timedelta")
    if numbers.columns.empty:
        raise InputError(f"truth: {path} has no numeric column beside {found!r}")
    checked = numbers.astype({name: _wide(numbers[name]) for name in numbers.columns})
    checked.insert(0, "architecture", frame[found].astype(str))
    dropped = [str(name) for name in frame.columns if name not in numbers.columns and name != found]
    return checked, (f"left out, not numeric: {', '.join(dropped)}",) if dropped else ()


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"truth: no file at {path}; expected a Parquet or CSV table with an architecture column")
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"truth: {path} must end in .parquet or .csv")
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"truth: cannot read {path} as {path.suffix[1:]}: {reason}") from error


def _check_architectures(path: Path, name: str, architectures: pd.Series) -> None:
    if pd.api.types.is_numeric_dtype(architectures):
        raise InputError(f"truth: column {name!r} of {path} holds numbers; architectures are text, not an index")
    if missing := int(architectures.isna().sum()):
        raise InputError(f"truth: column {name!r} of {path} is empty in {missing} of {len(architectures)} rows")
    if duplicates := int(architectures.duplicated().sum()):
        raise InputError(
            f"truth: {path} repeats {duplicates} of its {len(architectures)} architectures; expected one row each"
        )


def _wide(values: pd.Series) -> str:
    """float64 for what has fractions or gaps, int64 for complete counts."""
    return "int64" if pd.api.types.is_integer_dtype(values) and values.notna().all() else "float64"
