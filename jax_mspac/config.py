"""The configuration of a run: sections of settings, which the files in configs/ change, and their validation.

The fields are the whole vocabulary of a run; each stands once, with its default, its range and its meaning, in the
component that it sets up: `default_config` lists them. A value comes from the defaults, from the system that
`config.method` names, from the config file, or from the command line; what is later in this order wins. Of a tuple a
command line gives the items with commas: --config.data.train_splits=train,val.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from jax_mspac import settings
from jax_mspac.errors import UserError
from jax_mspac.runtime.fields import ConfigDict
from jax_mspac.settings import NOT_NEGATIVE, Expected, Problem, SettingsError, at_least, setting, within

_SPLITS = Expected(
    "names of splits, such as train,val, each once and never test",
    lambda names: 0 < len(names) == len(set(names)) and "test" not in names,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What no section holds."""

    method: str = setting("mspac", None, "a name of jax_mspac.methods.METHODS; it sets what makes that system")
    recipe: str = setting("own", settings.one_of(("own", "config")), "of the method, or as set here (config)")
    seed: int = setting(0, within(0, 2**32 - 1))

    def __post_init__(self) -> None:
        settings.check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images, and at which size they are used; data sets have further fields."""

    name: str = setting("synthetic", None, "a name of jax_mspac.data.registry.DATA_SETS")
    source: str = setting("", None, "folder of the original images, for data sets that have one")
    data_dir: str = setting("", None, "of prepared TFDS sets; '': TFDS's own default, ~/tensorflow_datasets")
    memory: str = setting("", None, "the .npz file of prepare --export to use in place of a prepared set")
    height: int = setting(96, at_least(1), "pixels")
    width: int = setting(48, at_least(1), "pixels")
    train_splits: tuple[str, ...] = setting(("train",), _SPLITS, "train,val trains on the validation split too")
    skip_bad_images: bool = setting(False, None, "leave out, and count, images that cannot be read, or refuse the set")

    def __post_init__(self) -> None:
        settings.check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The training loop."""

    steps: int = setting(400, at_least(1))
    log_every: int = setting(10, at_least(1), "steps between progress lines")
    skip_nonfinite: int = setting(0, at_least(0), "steps that are not finite to leave out before it stops")
    decoded_gb: float = setting(5.0, NOT_NEGATIVE, "of training images to keep decoded in memory; 0: none")
    compilation_cache: bool = setting(True, None, "keep compiled programs in a folder of this user")

    def __post_init__(self) -> None:
        settings.check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Checkpoints while training."""

    every: int = setting(100, at_least(1), "steps")
    keep: int = setting(2, at_least(1), "latest checkpoints kept, besides the best one")

    def __post_init__(self) -> None:
        settings.check(self)


class Config(ConfigDict):
    """A config that knows which of its fields were set after its defaults."""

    def __init__(self, *arguments: Any, **options: Any):
        object.__setattr__(self, "_set", set())
        super().__init__(*arguments, **options)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._set.add(key)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        object.__setattr__(self, "_set", set(state["_set"]))

    @property
    def chosen(self) -> set[str]:
        """The fields that were set, such as "model.width"."""
        inner = {
            f"{name}.{field}" for name, value in self.items() if isinstance(value, Config) for field in value.chosen
        }
        return inner | {name for name in self._set if not isinstance(self[name], ConfigDict)}

    @contextlib.contextmanager
    def giving_way(self) -> Iterator[None]:
        """What is set in here is a default: the system that is trained may set it otherwise."""
        sections = [self, *_nested(self)]
        before = [set(section._set) for section in sections]
        yield
        for section, names in zip(sections, before, strict=True):
            object.__setattr__(section, "_set", names)


def _nested(config: ConfigDict) -> Iterator[ConfigDict]:
    for value in config.values():
        if isinstance(value, ConfigDict):
            yield value
            yield from _nested(value)


def chosen(config: ConfigDict) -> set[str]:
    """The fields of a config that a config file or a command line has set."""
    return config.chosen if isinstance(config, Config) else set()


def sections() -> list[tuple[str, type]]:
    """The sections of a config and the components that they set up; "" is of fields without a section.

    `data` and `eval` have further fields, of the data set; `loss` has a section for each loss of `losses.LOSSES`.
    """
    # JAX takes a second to import: --help answers without it.
    from jax_mspac import methods
    from jax_mspac.data.sampling import BatchSettings
    from jax_mspac.evaluation.evaluator import EvaluationSettings
    from jax_mspac.losses import LOSSES, Identity
    from jax_mspac.methods.augmentation import Augmentation
    from jax_mspac.methods.learned import NetworkSettings
    from jax_mspac.methods.optimizers import Recipe
    from jax_mspac.models.embedder import Embedder

    return [
        ("", RunSettings),
        ("data", DataSettings),
        ("batch", BatchSettings),
        ("augment", Augmentation),
        ("model", Embedder),
        ("model", NetworkSettings),
        ("loss", Identity),
        *((f"loss.{name}", loss) for name, loss in LOSSES.items()),
        ("optimizer", Recipe),
        ("train", TrainSettings),
        ("checkpoint", CheckpointSettings),
        ("eval", EvaluationSettings),
        *methods.sections().items(),
    ]


def default_config(data_set: str = "synthetic") -> Config:
    """All fields with their defaults: MSPAC-MeCen at a size for two CPU cores.

    Args:
      data_set: its name; it adds fields to `data` and `eval`.

    Raises:
      UserError: there is no such data set.
    """
    from jax_mspac.data.registry import named

    config = Config()
    for section, component in sections():
        values = config
        for name in section.split(".") if section else ():
            if name not in values:
                values[name] = Config()
            values = values[name]
        for name, default in settings.defaults(component).items():
            values[name] = default
    added = named(data_set)
    config.data.name = data_set
    for values, fields in ((config.data, added.fields), (config.eval, added.eval_fields)):
        for name, default in fields.items():
            values[name] = default
    for values in (config, *_nested(config)):
        values._set.clear()
    return config


def full_size_config(data_set: str) -> Config:
    """The defaults at the size of the slides, for accelerators: ResNet-50 from ImageNet weights at 288x144.

    The slides give no recipe; the optimizer's is AGW's (Ye et al., arXiv 2001.04193).
    """
    config = default_config(data_set)
    with config.giving_way():
        config.data.height, config.data.width = 288, 144
        config.augment.pad = 10
        config.augment.erasing = 0.0
        config.model.backbone = "resnet50"
        config.model.pretrained = "hf://timm/resnet50.tv_in1k"
        config.optimizer.learning_rate = 0.1
        config.optimizer.backbone_factor = 0.1
        config.optimizer.schedule = "step"
        config.optimizer.warmup = 0.12  # 10, 20 and 50 of 81 epochs
        config.optimizer.milestones = (0.25, 0.62)
        config.train.log_every = 50
        config.checkpoint.every = 1000
        # The published sets leave no validation split, and test identities must not choose the model: the last step
        # counts.
        config.eval.every = 0
        config.eval.monitor_split = "test"  # if eval.every is set all the same: watched, but it chooses no checkpoint
    return config


def check_types(config: ConfigDict) -> None:
    """Checks that each field is one that there is, and of its type.

    Raises:
      UserError: lists those that are not.
    """
    lines: list[str] = []

    def visit(prefix: str, values: Any, defaults: ConfigDict) -> None:
        if not isinstance(values, ConfigDict):
            lines.append(f"  config.{prefix.removesuffix('.')} is {values!r}; expected a section of settings")
            return
        for name in sorted(set(values) - set(defaults)):
            lines.append(f"  config.{prefix}{name}: there is no such field; there are {', '.join(defaults)}")
        for name, default in defaults.items():
            field = prefix + name
            if name not in values:
                lines.append(f"  config.{field} is missing; its default is {default!r}")
            elif isinstance(default, ConfigDict):
                visit(f"{field}.", values[name], default)
            elif found := settings.mistyped(values[name], default):
                lines.append(f"  config.{field} is {values[name]!r}; expected {found}")

    data = config.get("data")
    name = data.get("name", "synthetic") if isinstance(data, ConfigDict) else "synthetic"
    visit("", config, default_config(name))
    if lines:
        raise UserError("impossible settings:\n" + "\n".join(lines))


def validate(config: ConfigDict) -> None:
    """Checks a config by building its components.

    Raises:
      UserError: lists every field with an impossible value, the value, and what is possible.
    """
    from jax_mspac import methods

    check_types(config)
    made = settings.Collector()
    for section, component in sections():
        values = config
        for name in section.split(".") if section else ():
            values = values[name]
        made.of(component, section, values)
    try:
        method = methods.build(config, num_identities=2)  # the classes matter to training alone
    except SettingsError as error:
        made.problems += error.problems
    else:
        if config.eval.feature not in method.features:
            expected = f"a feature of {config.method}: {', '.join(method.features)}"
            made.problems.append(Problem("eval.feature", config.eval.feature, expected))
    if made.problems:
        raise UserError("impossible settings:\n" + "\n".join(settings.describe(made.problems, "config.")))


def split_lists(config: ConfigDict) -> None:
    """Splits the strings in tuple fields at commas, in place: a command line gives "train,val" as one string."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            split_lists(value)
        elif isinstance(value, tuple):
            parts = (part.split(",") if isinstance(part, str) else [part] for part in value)
            stripped = (part.strip() if isinstance(part, str) else part for part in itertools.chain(*parts))
            items = tuple(part for part in stripped if part != "")
            if items != value:
                config[name] = items
