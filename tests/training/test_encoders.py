"""Backbones as the way down of a U-Net: their weights from a file, and what is said where there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tabib.config import SegmentationModel
from tabib.errors import WeightsError
from tabib.training.networks import Network
from tabib.training.segmenters import Form, build_segmenter

NAME = "resnet10t"


def build(weights: str | Path | None, *, channels: int = 3, encoder: str = NAME, offline: bool = True) -> Network:
    model = SegmentationModel.model_validate({"encoder": encoder, "weights": weights if weights is None else str(weights)})
    return build_segmenter(model, Form(channels, 3, (32, 32), None), offline=offline)[0]


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    torch.manual_seed(5)
    return timm.create_model(NAME).eval()


def deepest(network: Network, images: torch.Tensor) -> torch.Tensor:
    return network.features.eval().get_submodule("encoder")(images)[-1]


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested", "without_classifier"])
def test_a_file_of_the_backbone_is_taken_by_its_names(backbone: torch.nn.Module, tmp_path: Path, kind: str) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}
    if kind == "without_classifier":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    file = tmp_path / ("a.pth" if kind in ("pth", "nested") else "a.safetensors")
    if file.suffix == ".pth":
        torch.save({"state_dict": tensors} if kind == "nested" else tensors, file)
    else:
        save_file(tensors, file)
    network = build(file)
    assert network.weights_source == f"file {file.name}"
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(deepest(network, images), backbone.forward_features(images))  # pyright: ignore[reportCallIssue]
        grey = build(file, channels=1)
        torch.testing.assert_close(deepest(grey, images[:, :1]), backbone.forward_features(images[:, :1].expand(-1, 3, -1, -1)))  # pyright: ignore[reportCallIssue]


def test_a_file_of_the_whole_network_is_taken_whole(tmp_path: Path) -> None:
    torch.manual_seed(6)
    first = build(None)
    for weight in first.parameters():
        weight.detach().normal_()
    save_file({name: tensor.contiguous() for name, tensor in first.features.state_dict().items()}, tmp_path / "a.safetensors")
    again = build(tmp_path / "a.safetensors")
    assert all(
        torch.equal(one, other)
        for one, other in zip(first.features.state_dict().values(), again.features.state_dict().values(), strict=True)
    )


def test_a_file_of_another_network_and_one_that_is_no_file_of_weights_are_refused(backbone: torch.nn.Module, tmp_path: Path) -> None:
    save_file(
        {name: tensor.contiguous() for name, tensor in backbone.state_dict().items() if "layer2" not in name}, tmp_path / "a.safetensors"
    )
    with pytest.raises(WeightsError, match=r"does not fit resnet10t.*tensors of the network are not in the file"):
        build(tmp_path / "a.safetensors")
    torch.save({"weight": Path("x")}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="nothing else is ever unpickled"):
        build(tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="There is no file of weights"):
        build(tmp_path / "none.pth")


def test_weights_that_are_not_here_are_said_with_where_to_fetch_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as refused, torch.device("meta"):
        build("imagenet", encoder="vgg19")
    assert re.search(r"model page timm/vgg19\.tv_in1k \(about 55\d MB, licence bsd-3-clause\)", str(refused.value))
    assert "model: {weights: vgg19.safetensors}" in str(refused.value)
