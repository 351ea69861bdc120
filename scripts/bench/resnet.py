"""A ResNet-18-shaped network with seeded weights: speed, size and numerics without a data set."""

from __future__ import annotations

import torch
from torch import nn

SIDE, CLASSES = 112, 100


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18(seed: int = 0) -> nn.Module:
    """Images float32 [N, 3, 112, 112] to logits [N, 100], batch norms settled on random images."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(width, outputs, stride), Block(outputs, outputs, 1)]
        width = outputs
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))
    with torch.no_grad():
        for _ in range(3):
            network(images(16, seed))
    return network.eval()


def images(rows: int, seed: int) -> torch.Tensor:
    """Smooth random images: coarse noise scaled up, so that neighbours agree as in photographs."""
    coarse = torch.rand(rows, 3, 14, 14, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
