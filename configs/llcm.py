"""LLCM: the full method of the slides. ResNet-50 from ImageNet weights, 288x144, parts (6, 3, 1).

    python -m jax_mspac.main --config configs/llcm.py --config.data.source=/path/to/LLCM

Needs: the data set (signed agreement with its authors: github.com/ZYK100/LLCM) and an accelerator. The weights are
downloaded once; without a network give a file with --config.model.pretrained=/path/resnet50.safetensors.
Takes: not measured yet on the real data set.
Expect: nothing is claimed yet, as this has not been trained on the real data set.

The recipe is that of configs/sysu.py, with as many epochs. The row "drawn queries" is the search that the authors' test
script reports as visible -> infrared.
"""

from jax_mspac.config import Config, full_size_config


def get_config() -> Config:
    config = full_size_config("llcm")
    config.train.steps = 43_000  # 81 epochs of the visible images
    config.eval.drawn_queries = True
    return config
