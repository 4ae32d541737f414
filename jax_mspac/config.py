"""The default configuration, which the files in configs/ change, and its validation.

The fields are the whole vocabulary of a run: a command line can only change what is listed here and what the config
file adds for its data set, under `data` (arguments of its builder) and `eval` (arguments of its protocols). Of a tuple
it gives the items with commas: --config.data.train_splits=train,val.
"""

import itertools
import json
import math
import os
from collections.abc import Collection

from ml_collections import ConfigDict

from jax_mspac import fields
from jax_mspac.errors import UserError

# Name of the resolved config in the workdir.
FILE = "config.json"
# A resumed run must agree with its checkpoints in these sections; elsewhere (train, eval, ...) it may change its mind.
RUN_IDENTITY = ("method", "recipe", "seed", "data", "batch", "augment", "model", "loss", "optimizer")
# Where data lies may differ between machines.
LOCATIONS = ("source", "data_dir")


def default_config() -> ConfigDict:
    """All fields with their defaults: MSPAC-MeCen on the demo data, at a size for two CPU cores."""
    config = ConfigDict()
    config.method = "mspac"  # a name of jax_mspac.methods.METHODS; it sets what makes that system, unless you do
    config.recipe = "own"  # optimizer, schedule and identities per step: of the method (own), or as set here (config)
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "synthetic"  # a name of jax_mspac.data.datasets.DATASETS
    config.data.source = ""  # folder of the original images, for data sets that have one
    config.data.data_dir = ""  # where prepared TFDS sets are kept; "": TFDS's own default, ~/tensorflow_datasets
    config.data.height = 96  # pixels
    config.data.width = 48
    config.data.train_splits = ("train",)  # ("train", "val") trains on the validation identities too
    config.data.skip_bad_images = False  # leave out, and count, images that cannot be read; False: refuse the set

    config.batch = ConfigDict()  # identities x (visible + infrared) images per step, over all devices
    config.batch.identities = 8
    config.batch.visible = 4
    config.batch.infrared = 4

    config.augment = ConfigDict()
    config.augment.pad = 4  # pixels of padding before the random crop; 0: no crop
    config.augment.flip = 0.5  # probability, like the ones below
    config.augment.erasing = 0.5
    config.augment.channel_exchange = 0.0  # visible images only: one channel shown in all three
    config.augment.random_gray = 0.0  # visible images only
    config.augment.channel_augmentation = False  # show each visible image twice, the second time with channel exchange

    config.model = ConfigDict()
    config.model.backbone = "resnet18"  # resnet18, resnet34, resnet50
    config.model.width = 64  # channels of the first stage; 64 is the published size
    config.model.pretrained = "none"  # none, a .safetensors/.npz/.pth file, hf://OWNER/NAME, or a workdir
    config.model.last_stride = 1
    config.model.shared_from = 1  # 0: all layers shared ... 1: own stems ... 5: two separate networks
    config.model.nonlocal_blocks = False  # AGW's, behind the second half of layers 2 and 3
    config.model.input_form = "rgb"  # rgb; zero_padding: two channels, one per modality, into a shared network
    config.model.parts = (6, 3, 1)  # stripes per level of the cascade; (): no attention
    config.model.attention_form = "mask"  # mask: x (1 + CH SP); literal: the slides' x + x (x CH SP)
    config.model.attention_kernel = 7  # of the spatial gate
    config.model.stripes = 6  # of the embedding when loss.identity is "part"
    config.model.pooling = "average"  # average, gem
    config.model.embedding_dim = 0  # 0: the pooled feature itself
    config.model.descriptor = "hog"  # of the methods without a network: hog, lomo
    config.model.metric = "kissme"  # of the methods that end with one: pca, kissme, lfda, cca, craft, hcml
    config.model.metric_dims = 100  # of the features that come out of it
    config.model.dtype = "float32"  # of the computation: float32, bfloat16; parameters stay float32

    config.loss = ConfigDict()
    config.loss.identity = "global"  # global: one classifier on the unified feature; part: one per stripe
    config.loss.identity_feature = "after_neck"  # what is classified: before_neck, after_neck
    config.loss.label_smoothing = 0.0
    config.loss.mecen = ConfigDict()
    config.loss.mecen.weight = 1.0  # 0: no center loss
    config.loss.mecen.feature = "before_neck"  # before_neck, after_neck
    config.loss.mecen.margin = 0.3
    config.loss.mecen.use_margin = True
    config.loss.mecen.use_exp = True
    config.loss.mecen.reduction = "per_sample"  # sum (the slides), mean, per_sample
    config.loss.mecen.centers = "normalize"  # kept unit where used: normalize; also after each step: project
    config.loss.hetero_center = ConfigDict()
    config.loss.hetero_center.weight = 0.0  # 0: no hetero-center loss
    config.loss.hetero_center.margin = 0.1
    config.loss.batch_hard = ConfigDict()
    config.loss.batch_hard.weight = 0.0  # 0: no batch-hard triplet loss
    config.loss.batch_hard.margin = 0.3
    config.loss.weighted_regularized = ConfigDict()
    config.loss.weighted_regularized.weight = 0.0  # 0: no weighted regularized triplet loss
    config.loss.weighted_regularized.squared = False  # of the squared difference, as in CAJ
    config.loss.hetero_center_triplet = ConfigDict()
    config.loss.hetero_center_triplet.weight = 0.0  # 0: no triplet loss of modality centers
    config.loss.hetero_center_triplet.margin = 0.3
    config.loss.hetero_center_triplet.stripes = 0.0  # weight of the mean over stripes, beside that of the whole
    config.loss.contrastive = ConfigDict()
    config.loss.contrastive.weight = 0.0  # 0: no contrastive loss across the modalities
    config.loss.contrastive.margin = 0.5
    config.loss.dual_constrained = ConfigDict()
    config.loss.dual_constrained.weight = 0.0  # 0: no dual-constrained top-ranking loss (BDTR)
    config.loss.dual_constrained.margin = 0.5
    config.loss.center_constrained = ConfigDict()
    config.loss.center_constrained.weight = 0.0  # 0: no center-constrained top-ranking loss (eBDTR)
    config.loss.center_constrained.margin = 0.5

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # sgd (Nesterov), adamw
    config.optimizer.learning_rate = 0.1
    config.optimizer.backbone_factor = 1.0  # learning rate of the backbone relative to the new layers
    config.optimizer.centers_factor = 5.0  # learning rate of the MeCen centers likewise
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_norms_and_biases = False
    config.optimizer.clip_norm = 0.0  # largest global gradient norm; 0: no clipping
    config.optimizer.schedule = "cosine"  # constant, step, cosine
    config.optimizer.warmup = 0.1  # linear, as a fraction of train.steps
    config.optimizer.milestones = (0.4, 0.7)  # step: x0.1 at these fractions of train.steps

    config.train = ConfigDict()
    config.train.steps = 400
    config.train.log_every = 10  # steps between progress lines
    config.train.skip_nonfinite = 0  # steps with a loss or gradient that is not finite to leave out before it stops
    config.train.decoded_gb = 5.0  # of training images to keep decoded in memory; 0: decode them each time
    config.train.compilation_cache = True  # keep compiled programs in a folder of this user

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 100  # steps
    config.checkpoint.keep = 2  # latest checkpoints kept, besides the best one

    config.eval = ConfigDict()
    config.eval.every = 200  # steps between evaluations while training; 0: only at the end
    config.eval.monitor_split = "val"  # what those look at; it also chooses the best checkpoint, unless "test"
    config.eval.batch = 64  # images
    config.eval.checkpoint = "latest"  # of --mode evaluate: latest, best or a step
    config.eval.feature = "after_neck"  # the primary metric: before_neck, after_neck or metric; all get reported
    config.eval.flip = False  # average the features of an image and of its horizontal flip
    config.eval.direction = "infrared->visible"  # the primary metric's direction
    config.eval.trials = 10  # random galleries
    config.eval.shots = (1,)  # gallery images per identity and camera; 0: the whole gallery
    config.eval.postprocessing = ()  # further rows, re-ranked by: k_reciprocal, gallery_affinity
    config.eval.baselines = False  # report chance, raw pixels and HOG beside the model
    return config


def full_size_config() -> ConfigDict:
    """The full method at the size of the slides, for accelerators: ResNet-50 from ImageNet weights at 288x144.

    The slides give no recipe; the optimizer's is AGW's (Ye et al., arXiv 2001.04193).
    """
    config = default_config()
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
    # The published sets leave no validation split, and test identities must not choose the model: the last step counts.
    config.eval.every = 0
    config.eval.monitor_split = "test"  # if eval.every is set all the same: watched, but it chooses no checkpoint
    return config


def check_types(config: ConfigDict) -> None:
    """Checks that each field is one that there is, and of its type.

    Raises:
      UserError: lists those that are not.
    """
    if problems := fields.problems(config, default_config()):
        raise UserError("impossible settings:\n" + "\n".join(problems))


def validate(config: ConfigDict) -> None:
    """Checks what can be checked before anything is built.

    Raises:
      UserError: lists every field with an impossible value, the value, and what is possible.
    """
    check_types(config)
    problems = []

    def expect(field: str, ok: bool, expected: str) -> None:
        if not ok:
            value = config
            for name in field.split("."):
                value = value[name]
            problems.append(f"  config.{field} is {value!r}; expected {expected}")

    def one_of(field: str, value: str, *choices: str) -> None:
        expect(field, value in choices, " or ".join(repr(choice) for choice in choices))

    expect("seed", 0 <= config.seed < 2**32, "0 to 4294967295")
    for field, value in (
        ("data.height", config.data.height),
        ("data.width", config.data.width),
        ("model.width", config.model.width),
        ("model.stripes", config.model.stripes),
        ("train.steps", config.train.steps),
        ("train.log_every", config.train.log_every),
        ("checkpoint.every", config.checkpoint.every),
        ("checkpoint.keep", config.checkpoint.keep),
        ("eval.batch", config.eval.batch),
        ("eval.trials", config.eval.trials),
    ):
        expect(field, value >= 1, "1 or more")
    expect("batch.identities", config.batch.identities >= 2, "2 or more: the losses compare identities")
    visible, infrared = config.batch.visible, config.batch.infrared
    expect("batch.visible", visible >= (1 if infrared == 0 else 0), "1 or more, or 0 for infrared images alone")
    expect("batch.infrared", infrared >= 0, "1 or more, or 0 for visible images alone")
    expect("eval.every", config.eval.every >= 0, "0 (only at the end) or more steps")
    expect("data.train_splits", len(config.data.train_splits) > 0, "names of splits, such as train,val")
    expect("eval.shots", len(config.eval.shots) > 0 and min(config.eval.shots) >= 0, "numbers of images, 0 for all")
    for field in ("flip", "erasing", "channel_exchange", "random_gray"):
        expect(f"augment.{field}", 0.0 <= config.augment[field] <= 1.0, "a probability from 0 to 1")
    expect("augment.pad", config.augment.pad >= 0, "0 (no random crop) or more pixels")
    one_of("model.backbone", config.model.backbone, "resnet18", "resnet34", "resnet50")
    expect("model.last_stride", config.model.last_stride in (1, 2), "1 or 2")
    expect("model.shared_from", 0 <= config.model.shared_from <= 5, "0 (all shared) to 5 (nothing shared)")
    expect("model.attention_kernel", config.model.attention_kernel % 2 == 1, "an odd size")
    expect("model.embedding_dim", config.model.embedding_dim >= 0, "0 (none) or more")
    parts = config.model.parts
    rows = -(-config.data.height // (32 if config.model.last_stride == 2 else 16))
    heights = f"the {rows} rows that data.height {config.data.height} leaves"
    expect("model.parts", all(n >= 1 and rows % n == 0 for n in parts), f"numbers that divide {heights}, or ()")
    divides = config.loss.identity != "part" or rows % max(config.model.stripes, 1) == 0
    expect("model.stripes", divides, f"a number that divides {heights}")
    one_of("recipe", config.recipe, "own", "config")
    one_of("model.descriptor", config.model.descriptor, "hog", "lomo")
    one_of("model.metric", config.model.metric, "pca", "kissme", "lfda", "cca", "craft", "hcml")
    expect("model.metric_dims", config.model.metric_dims >= 1, "1 or more")
    one_of("model.input_form", config.model.input_form, "rgb", "zero_padding")
    shared = config.model.input_form == "rgb" or config.model.shared_from == 0
    expect("model.shared_from", shared, "0, because model.input_form is 'zero_padding'")
    one_of("model.attention_form", config.model.attention_form, "mask", "literal")
    one_of("model.pooling", config.model.pooling, "average", "gem")
    one_of("model.dtype", config.model.dtype, "float32", "bfloat16")
    one_of("loss.identity", config.loss.identity, "global", "part")
    one_of("loss.identity_feature", config.loss.identity_feature, "before_neck", "after_neck")
    one_of("loss.mecen.centers", config.loss.mecen.centers, "normalize", "project")
    one_of("loss.mecen.feature", config.loss.mecen.feature, "before_neck", "after_neck")
    one_of("loss.mecen.reduction", config.loss.mecen.reduction, "sum", "mean", "per_sample")
    one_of("optimizer.name", config.optimizer.name, "sgd", "adamw")
    one_of("optimizer.schedule", config.optimizer.schedule, "constant", "step", "cosine")
    expect("optimizer.learning_rate", 0 < config.optimizer.learning_rate < math.inf, "a positive number")
    expect("train.decoded_gb", 0 <= config.train.decoded_gb < math.inf, "0 (keep none) or gigabytes")
    for field in ("backbone_factor", "centers_factor", "weight_decay", "clip_norm"):
        expect(f"optimizer.{field}", 0 <= config.optimizer[field] < math.inf, "0 or a positive number")
    for name, loss in config.loss.items():
        if isinstance(loss, ConfigDict):
            expect(f"loss.{name}.weight", 0 <= loss.weight < math.inf, "0 (not used) or a positive number")
            alone = loss.weight == 0 or min(visible, infrared) > 0
            expect(f"loss.{name}.weight", alone, "0, because one modality alone is learned with the identity loss")
            expect(f"loss.{name}.margin", 0 <= loss.get("margin", 0) < math.inf, "0 or a positive number")
    expect("loss.label_smoothing", 0 <= config.loss.label_smoothing < 1, "a fraction from 0 to below 1")
    expect("optimizer.momentum", 0 <= config.optimizer.momentum < 1, "a fraction from 0 to below 1")
    milestones = config.optimizer.milestones
    rising = all(0 < early < late <= 1 for early, late in itertools.pairwise((*milestones, 1.0)))
    expect("optimizer.milestones", rising, "rising fractions of train.steps between 0 and 1")
    expect("train.skip_nonfinite", config.train.skip_nonfinite >= 0, "0 (stop at the first) or more steps")
    expect("optimizer.warmup", 0.0 <= config.optimizer.warmup < 1.0, "a fraction of train.steps from 0 to below 1")
    one_of("eval.feature", config.eval.feature, "before_neck", "after_neck", "metric")
    reranking = "k_reciprocal", "gallery_affinity"
    known = set(config.eval.postprocessing) <= set(reranking)
    expect("eval.postprocessing", known, f"names among {reranking}, or () for none")
    one_of("eval.direction", config.eval.direction, "infrared->visible", "visible->infrared")
    checkpoint = config.eval.checkpoint
    expect("eval.checkpoint", checkpoint in ("latest", "best") or checkpoint.isdecimal(), "'latest', 'best' or a step")
    if problems:
        raise UserError("impossible settings:\n" + "\n".join(problems))


def split_lists(config: ConfigDict) -> None:
    """Splits the strings in tuple fields at commas, in place: a command line gives "train,val" as one string."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            split_lists(value)
        elif isinstance(value, tuple):
            parts = (part.split(",") if isinstance(part, str) else [part] for part in value)
            stripped = (part.strip() if isinstance(part, str) else part for part in itertools.chain(*parts))
            config[name] = tuple(part for part in stripped if part != "")


def save(config: ConfigDict, path: str | os.PathLike) -> None:
    """Writes the resolved config as JSON, whole or not at all."""
    partial = f"{os.fspath(path)}.partial"
    with open(partial, "w") as file:
        file.write(config.to_json(indent=2, sort_keys=True))
    os.replace(partial, path)


def load(path: str | os.PathLike) -> ConfigDict:
    """Reads a config that `save` wrote.

    Raises:
      UserError: there is no such file, or it is not a config.
    """
    try:
        with open(path) as file:
            values = json.load(file)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: is this the --workdir of a training run?") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file: {error}") from None
    # Fields that are younger than the run have their defaults, as they had in effect then.
    config = default_config()
    try:
        with config.unlocked():
            config.update(_tuples(values))
    # Whatever the library makes of values of another type.
    except Exception as error:
        raise UserError(f"{path} is not the config of a run ({error}); copy it again from where it came from") from None
    return config


def differences(old: ConfigDict, new: ConfigDict, sections: Collection[str] = RUN_IDENTITY) -> list[str]:
    """Fields that make `new` another run than `old`, one line each: "config.seed was 0, now 1".

    Args:
      old: a config.
      new: another one.
      sections: the top-level fields to look at; in them, where data lies never counts.
    """

    def flat(config: ConfigDict) -> dict[str, object]:
        fields = {}

        def visit(prefix: str, value: object) -> None:
            if isinstance(value, dict):
                for name, inner in value.items():
                    visit(f"{prefix}.{name}", inner)
            else:
                fields[prefix] = value

        for name, value in _tuples(json.loads(config.to_json())).items():
            if name in sections:
                visit(f"config.{name}", value)
        return {name: value for name, value in fields.items() if name.rpartition(".")[2] not in LOCATIONS}

    before, after = flat(old), flat(new)
    return [
        f"{name} was {before.get(name)!r}, now {after.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _tuples(value):
    """JSON has no tuples: every list was one."""
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value
