"""A sweep's jobs as Hydra composes them: sweeps without any are refused, and options without effect left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from imgrec.cli.config import class_of
from imgrec.errors import UsageError
from imgrec.kinds import GROUPS, Ranking
from imgrec.options import option_names


def check_sweep(configuration: DictConfig, loader: ConfigLoader, ranking: Ranking | None) -> None:
    """Refuse a sweep that would have no job, or whose sweeper would look for the worst.

    Args:
        configuration: composed for the sweep, Hydra's part included.
        loader: knows the choices that a glob may match.
        ranking: of the stage; None if it returns no figures.

    Raises:
        UsageError: that is so.
    """
    parser = OverridesParser.create(config_loader=loader)
    given: Any = OmegaConf.to_container(configuration.hydra.overrides.task, resolve=False)
    for each in parser.parse_overrides(given):
        if each.is_discrete_sweep() and next(iter(each.sweep_string_iterator()), None) is None:
            raise UsageError(f"{each.input_line} stands for nothing: the sweep would have no job")
    if (asked := directions(configuration.hydra)) is None:
        return
    if ranking is None:
        raise UsageError("hydra/sweeper= optimises figures, and this stage has none: take evaluate")
    wanted = ranking.directions()
    right = list(wanted.values())[: len(asked)]
    if asked != right:
        best = " and ".join(f"{direction} {figure}" for figure, direction in zip(wanted, right, strict=False))
        raise UsageError(
            f"hydra.sweeper.direction={_written(asked)} does not look for the best, which is to {best}: "
            f"hydra.sweeper.direction={_written(right)}"
        )


def directions(settings: DictConfig | HydraConf) -> list[str] | None:
    """The directions of a sweeper that optimises, `maximize` or `minimize`, one a figure; None if it does not."""
    asked = OmegaConf.select(settings, "sweeper.direction")  # type: ignore[arg-type]
    if asked is None:
        return None
    several = list(asked) if isinstance(asked, ListConfig) else [asked]
    return [getattr(each, "name", each) for each in several]


def _written(directions: Sequence[str]) -> str:
    return directions[0] if len(directions) == 1 else f"[{','.join(directions)}]"


def leave_out(configuration: DictConfig, given: Mapping[str, str]) -> dict[str, str]:
    """Remove from a sweep's job the options of components chosen in it that do not have them.

    Other jobs have other choices: of `projection=none,pca projection.n_components=32,64` the one with none goes
    without.

    Args:
        configuration: of the job, which is changed.
        given: what the command line sets for this job.

    Returns:
        For each option left out the choice that lacks it.
    """
    found = {}
    for key in given:
        owner = next((each for each in given if key.startswith(f"{each}.")), None)
        node = OmegaConf.select(configuration, owner) if owner else None
        if not isinstance(node, DictConfig) or owner is None:
            continue
        name, cls = key.removeprefix(f"{owner}.").partition(".")[0], class_of(node)
        is_none = cls is None and given[owner] == getattr(GROUPS.get(owner.rpartition(".")[2]), "none", None)
        if is_none or (cls is not None and name not in option_names(cls)):
            with open_dict(node):
                node.pop(name, None)
            found[key] = f"{owner}={given[owner]}"
    return found
