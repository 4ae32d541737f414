"""The study with ImageNet weights: the full ResNet-18, 60 drawn people, half as many steps.

    python -m jax_mspac.reproduce --table mecen --config configs/study_imagenet.py
    python -m jax_mspac.main --config configs/study_imagenet.py

The published systems start from ImageNet weights. A center loss can help there: 512 features that separate a million
photographs hold much that is not about identity. The narrow networks of the other studies hold little of it.

Needs: weights of a ResNet-18 with torchvision's names, downloaded once; without a network, bring the file:
--config.model.pretrained=resnet18.safetensors.
Takes: 5 to 7 minutes a run on one of two CPU cores, with another run on the other.
"""

from configs import study
from jax_mspac.config import Config


def get_config() -> Config:
    config = study.get_config()
    with config.giving_way():
        config.data.train_identities = 60
        config.model.width = 64
        config.model.pretrained = "hf://timm/resnet18.tv_in1k"
        config.optimizer.learning_rate = 0.0005
        config.train.steps = 400
        config.checkpoint.every = 400
    return config
