"""A plain PyTorch script: torchvision transforms, a DataLoader with two workers, EfficientNetB2 from timm. Prints one JSON line.

`tamed` as the last argument tames the allocator as Tabib does; `plain` leaves it as it comes.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import chain, repeat

import timm
import torch
from torch import nn
from torchvision import datasets
from torchvision.transforms import v2

from tabib.engines import tame_allocator

folder, batch, steps, threads, allocator = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
if allocator == "tamed":
    tame_allocator()
torch.set_num_threads(threads)
torch.manual_seed(0)

transform = v2.Compose(
    [
        v2.Resize((128, 128)),
        v2.RandomAffine(degrees=30, translate=(0.2, 0.2), scale=(0.8, 1.2), shear=0.2),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ]
)
loader = torch.utils.data.DataLoader(
    datasets.ImageFolder(folder, transform), batch_size=batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
)
network = nn.Sequential(
    timm.create_model("tf_efficientnet_b2", num_classes=0),
    *(nn.Linear(1408, 128), nn.ReLU(), nn.Dropout(0.3)),
    *(nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2)),
    nn.Linear(64, 1),
)
optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
loss_of = nn.BCEWithLogitsLoss()
network.train()

started = 0.0
for step, (images, labels) in enumerate(chain.from_iterable(repeat(loader))):
    if step == 3:
        started = time.perf_counter()
    if step == steps + 3:
        break
    loss = loss_of(network(images)[:, 0], labels.float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()
print(json.dumps({"images_per_second": batch * steps / (time.perf_counter() - started)}))
