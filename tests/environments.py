"""What `make test-oldest`, `test-newest` and `test-core` install and run.

python -m tests.environments oldest     the oldest release of each dependency, as constraints of pip
python -m tests.environments versions   the tests whose results may depend on the releases
python -m tests.environments core       the tests that need no extra
python -m tests.environments row        what is installed, as a row of the table in docs/environment.md
python -m tests.environments sizes      packages and megabytes that the core and each extra bring, if all are installed
python -m tests.environments imports    seconds that `import lightning_advdrop` takes beyond `import lightning`
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]

#: The tests of attaching the callback, which need torch, lightning and NumPy only.
CORE = (
    "tests/callbacks/test_attaching.py",
    "tests/callbacks/test_averaging.py",
    "tests/callbacks/test_contract.py",
    "tests/callbacks/test_description.py",
    "tests/callbacks/test_detaching.py",
    "tests/callbacks/test_own_metrics.py",
    "tests/callbacks/test_random_state.py",
    "tests/callbacks/test_restoring.py",
    "tests/callbacks/test_several.py",
    "tests/callbacks/test_terminate_on_nan.py",
    "tests/callbacks/test_training_options.py",
    "tests/masking/test_apply*.py",
    "tests/masking/test_dropout_sites.py",
    "tests/masking/test_sites.py",
    "tests/test_extras.py",
)

#: The same, and those that touch what else differs between releases of the dependencies.
VERSIONS = (
    *CORE,
    "tests/callbacks/test_averaging_contract.py",
    "tests/callbacks/test_compiled.py",
    "tests/callbacks/test_derived.py",
    "tests/callbacks/test_keep_best.py",
    "tests/callbacks/test_lightning_packages.py",
    "tests/callbacks/test_mask_statistics.py",
    "tests/cli/test_cli.py",
    "tests/cli/test_config_names.py",
    "tests/cli/test_programs.py",
    "tests/cli/test_resuming.py",
    "tests/cli/test_spelling.py",
    "tests/datamodules/test_digits.py",
    "tests/datamodules/test_downloads.py",
    "tests/datamodules/test_vocabulary.py",
    "tests/functional/test_masks.py",
    "tests/masking/test_attention.py",
    "tests/masking/test_checkpointing.py",
    "tests/masking/test_computed_weights.py",
    "tests/masking/test_given_away_memory.py",
    "tests/masking/test_grad_modes.py",
    "tests/masking/test_module_state.py",
    "tests/masking/test_own_dropout.py",
    "tests/masking/test_parameter_writes.py",
    "tests/masking/test_random_state.py",
    "tests/masking/test_re*.py",
    "tests/masking/test_several_modes.py",
    "tests/masking/test_tensor_copies.py",
    "tests/masking/test_transforms.py",
    "tests/masking/test_written_results.py",
    "tests/nn/test_call.py",
    "tests/nn/test_cells.py",
    "tests/nn/test_graphs.py",
    "tests/nn/test_layer.py",
    "tests/nn/test_matmul.py",
    "tests/report/test_command.py",
    "tests/report/test_plots.py",
    "tests/report/test_tables.py",
    "tests/tasks/test_base.py",
    "tests/tasks/test_checkpoint_files.py",
    "tests/tasks/test_resuming.py",
    "tests/test_lightning_private.py",
    "tests/test_torch_private.py",
)


def project() -> dict[str, Any]:
    """The table ``project`` of ``pyproject.toml``."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        content: dict[str, Any] = tomllib.load(file)["project"]
    return content


def oldest() -> list[str]:
    """The lower bound of each dependency, as a constraint."""
    found = project()
    extras = found["optional-dependencies"].values()
    requirements = [*found["dependencies"], *(each for extra in extras for each in extra)]
    bounds = (re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", requirement) for requirement in requirements)
    lines = [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]
    return [
        *lines,
        *(line.replace("lightning", "pytorch-lightning") for line in lines if line.startswith("lightning=")),
    ]


def paths(patterns: tuple[str, ...]) -> list[str]:
    """The files of tests, relative to the root of the repository."""
    found = [(pattern, sorted(ROOT.glob(pattern))) for pattern in patterns]
    gone = [pattern for pattern, files in found if not files]
    if gone:
        raise ValueError(f"CORE and VERSIONS must name tests that there are, got {', '.join(gone)}.")
    return list(dict.fromkeys(str(path.relative_to(ROOT)) for _, files in found for path in files))


def megabytes(distributions: Iterable[metadata.Distribution]) -> str:
    """The size of all files of some distributions."""
    files = (Path(str(file.locate())) for each in distributions for file in each.files or ())
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:,.0f} MB"


def row() -> str:
    """The releases that are installed, the number of packages and their size."""
    distributions = {each.name.lower(): each for each in metadata.distributions()}
    releases = [
        distributions[name].version if name in distributions else "-" for name in ("torch", "lightning", "numpy")
    ]
    size = megabytes(distributions.values())
    return f"| {' | '.join([*releases, platform.python_version()])} | {len(distributions)} | {size} |"


def needed(name: str, extra: str = "") -> set[str]:
    """The names of a distribution and of all that it needs, itself or for what it needs, with an extra."""
    from packaging.requirements import Requirement  # comes with lightning
    from packaging.utils import canonicalize_name

    found: set[tuple[str, str]] = set()
    waiting = [(name, extra)]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        found.add(each)
        for line in metadata.requires(each[0]) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": each[1]}):
                waiting += [(canonicalize_name(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return {each for each, _ in found}


def sizes() -> str:
    """The packages and megabytes of the core, and those that each extra adds to it."""
    core = needed("lightning-advdrop")
    extras = {extra: needed("lightning-advdrop", extra) - core for extra in project()["optional-dependencies"]}
    lines = [
        f"| {extra} | {len(names)} | {megabytes(map(metadata.distribution, names))} |"
        for extra, names in {"core": core, **extras}.items()
    ]
    return "\n".join(lines)


def imports(times: int = 9) -> str:
    """Medians of the processor time of imports, each in a new process."""
    code = "import time, lightning; start = time.process_time(); {}; print(time.process_time() - start)"
    lines = []
    for what in ("import lightning_advdrop", "from lightning_advdrop import AdversarialDropoutCallback"):
        command = [sys.executable, "-c", code.format(what)]
        printed = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(times)]
        lines.append(f"| `{what}` | {statistics.median(map(float, printed)):.3f} s |")
    return "\n".join(lines)


#: What each command prints.
COMMANDS: dict[str, Callable[[], str]] = {
    "oldest": lambda: "\n".join(oldest()),
    "versions": lambda: " ".join(paths(VERSIONS)),
    "core": lambda: " ".join(paths(CORE)),
    "row": row,
    "sizes": sizes,
    "imports": imports,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(COMMANDS))
    print(COMMANDS[parser.parse_args().what]())
