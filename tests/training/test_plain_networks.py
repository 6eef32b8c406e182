"""Published networks have their published weights, to the digit, and answer as other libraries' do."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from tabib.config import Freeze, ModelPart
from tabib.errors import StudyError, WeightsError
from tabib.training.freezing import freeze
from tabib.training.networks import Network, build_network, resolve_model
from tabib.training.plain_networks import PLAIN_NETWORKS, plain_features


def build(network: str, *, classes: int = 2, channels: int = 3, side: int, **settings: object) -> Network:
    model = ModelPart.model_validate({"network": network, **settings})
    return build_network(model, classes=classes, channels=channels, height=side, width=side, offline=True)


def drawn_nowhere(network: str, **settings: object) -> Network:
    """The network without the memory of its weights: shapes are enough to count."""
    with torch.device("meta"):
        return build(network, **settings)  # pyright: ignore[reportArgumentType]


def weights(network: Network) -> int:
    return sum(weight.numel() for weight in network.parameters())


def statistics(network: Network) -> int:
    """What batch norm measures: a mean and a variance of each map. Keras counts them, PyTorch does not."""
    return sum(buffer.numel() for name, buffer in network.named_buffers() if name.endswith(("running_mean", "running_var")))


PAGE = Path(__file__).parents[2] / "docs/how-to/networks.md"
ROW = re.compile(r"^\| `(\w+)` \|[^|]+\| (\d+)×\d+×(\d) \| (\d+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)
COUNTED = [(name, *(int(number.replace(",", "")) for number in numbers)) for name, *numbers in ROW.findall(PAGE.read_text())]


def test_the_page_has_every_plain_network() -> None:
    assert {row[0] for row in COUNTED} == {*PLAIN_NETWORKS, "vgg16", "vgg19", "resnet50"}
    assert {row[-1] for row in COUNTED} >= {902_682, 1_086_434, 1_059_298, 4_213_410, 60_965_224, 57_012_034, 143_667_240}


@pytest.mark.parametrize(("network", "side", "channels", "classes", "learnt", "total"), COUNTED)
def test_weights_to_the_digit(network: str, side: int, channels: int, classes: int, learnt: int, total: int) -> None:
    built = drawn_nowhere(network, classes=classes, channels=channels, side=side)
    assert (weights(built), weights(built) + statistics(built)) == (learnt, total)


@pytest.mark.parametrize(("network", "learnt"), [("vgg16", 138_357_544), ("resnet50", 25_557_032)])
def test_a_backbone_has_its_weights_at_any_size(network: str, learnt: int) -> None:
    assert weights(drawn_nowhere(network, classes=1000, side=48)) == learnt


@pytest.mark.parametrize(
    ("network", "side", "channels", "maps"),
    [
        ("blast_cnn", 257, 3, [(256, 129, 129), (128, 66, 66), (96, 35, 35), (96, 35, 35), (32, 37, 37)]),
        ("mri_cnn_selected", 64, 1, [(32, 64, 64)] * 2 + [(32, 32, 32)] * 2),
        ("mri_cnn_test1", 64, 1, [(32, 64, 64), (32, 32, 32)]),
        ("mri_cnn_test2", 64, 1, [(32, 64, 64)] * 2),
        ("alexnet_2012", 224, 3, [(96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]),
        ("alexnet_2014", 224, 3, [(64, 55, 55), (192, 27, 27), (384, 13, 13), (256, 13, 13), (256, 13, 13)]),
    ],
)
def test_maps_have_the_published_sizes(network: str, side: int, channels: int, maps: list[tuple[int, ...]]) -> None:
    built = drawn_nowhere(network, channels=channels, side=side).eval()
    seen: list[tuple[int, ...]] = []
    for module in built.features:  # pyright: ignore[reportGeneralTypeIssues]
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, result: seen.append(tuple(result.shape[1:])))
    built.features(torch.zeros(1, channels, side, side, device="meta"))
    assert seen == maps


def test_batch_norm_and_dropout_stand_where_they_are_published() -> None:
    kinds = [type(layer).__name__.strip("_") for layer in drawn_nowhere("mri_cnn_selected", channels=1, side=64).features.children()]
    block = ["Conv2d", "ReLU", "BatchNorm2d"]
    stage = [*block, "Dropout", *block, "MaxPool2d"]
    assert kinds == [*stage, *stage, "Flatten", "Linear", "ReLU", "BatchNorm1d", "Linear", "ReLU", "BatchNorm1d", "Dropout"]
    assert PLAIN_NETWORKS["mri_cnn_selected"].dropout == [0.2, 0.2, 0.2]
    assert PLAIN_NETWORKS["blast_cnn"].dropout == [0.5]


@pytest.mark.parametrize(("side", "around"), [(257, (1, 1)), (256, (0, 1))])
def test_same_padding_is_that_of_tensorflow(side: int, around: tuple[int, int]) -> None:
    # tf.nn.convolution: the odd zero goes to the right and below.
    first = plain_features(PLAIN_NETWORKS["blast_cnn"], 1, side, side, dropout=[0.5])[0]
    assert isinstance(first, nn.Conv2d)
    images = torch.rand(1, 1, side, side)
    expected = functional.conv2d(functional.pad(images, around * 2), first.weight, first.bias, stride=2)
    assert torch.equal(first(images), expected)
    assert expected.shape[-1] == math.ceil(side / 2)


def test_local_response_norm_is_that_of_the_paper() -> None:
    norm = plain_features(PLAIN_NETWORKS["alexnet_2012"], 3, 64, 64, dropout=[0, 0]).get_submodule("local_norm1")
    maps = 30 * torch.rand(1, 9, 1, 1)
    around = [sum(float(maps[0, j]) ** 2 for j in range(max(0, i - 2), min(8, i + 2) + 1)) for i in range(9)]
    expected = [float(maps[0, i]) / (2 + 1e-4 * around[i]) ** 0.75 for i in range(9)]
    torch.testing.assert_close(norm(maps).flatten(), torch.tensor(expected))


def test_a_dropout_of_the_network_is_a_field_of_the_study() -> None:
    network = build("mri_cnn_test2", channels=1, side=16, dropout=[0, 0.4])
    assert [layer.p for layer in network.features.children() if isinstance(layer, nn.Dropout)] == [0, 0.4]
    assert [type(layer) for layer in network.head] == [nn.Linear]  # pyright: ignore[reportGeneralTypeIssues]


@pytest.mark.parametrize(
    ("model", "classes", "said"),
    [
        ({"network": "blast_cnn", "head": [8]}, 2, "blast_cnn has dense layers of its own"),
        ({"network": "mri_cnn_selected", "dropout": [0.5]}, 2, "mri_cnn_selected has 3 dropout layers"),
        ({"dropout": [0.5, 0.5]}, 2, "there is one, before the output"),
        ({"outputs": "one"}, 3, "there are 3 classes"),
    ],
)
def test_what_a_network_does_not_have_is_refused(model: dict[str, object], classes: int, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        resolve_model(ModelPart.model_validate(model), classes=classes)


@pytest.mark.parametrize(
    ("model", "classes", "dropout", "outputs"),
    [
        ({}, 2, [0.2], "one"),
        ({}, 3, [0.2], "one_per_class"),
        ({"head": [64, 32]}, 2, [0.2, 0.2], "one"),
        ({"network": "blast_cnn"}, 2, [0.5], "one_per_class"),
        ({"network": "blast_cnn", "outputs": "one"}, 2, [0.5], "one"),
        ({"outputs": "one_per_class", "dropout": [0]}, 2, [0], "one_per_class"),
    ],
)
def test_auto_becomes_a_value(model: dict[str, object], classes: int, dropout: list[float], outputs: str) -> None:
    resolved = resolve_model(ModelPart.model_validate(model), classes=classes)
    assert (resolved.dropout, resolved.outputs) == (dropout, outputs)
    assert resolve_model(resolved, classes=classes) == resolved


@pytest.mark.parametrize(("outputs", "width"), [("auto", 2), ("one", 1)])
def test_two_classes_may_have_two_outputs(outputs: str, width: int) -> None:
    assert build("mri_cnn_test1", channels=1, side=16, outputs=outputs)(torch.zeros(3, 1, 16, 16)).shape == (3, width)


@pytest.mark.parametrize(("network", "side"), [("mri_cnn_selected", 8), ("alexnet_2012", 64), ("alexnet_2014", 64)])
def test_small_images_pass_or_are_refused_aloud(network: str, side: int) -> None:
    assert drawn_nowhere(network, side=side).eval()(torch.zeros(1, 3, side, side, device="meta")).shape == (1, 2)
    with pytest.raises(StudyError, match=rf"{network} cannot take images of 3x3 pixels: nothing is left of them after (pool2|conv1)"):
        drawn_nowhere(network, side=3)


# --- Weights of another library ---


def rewritten(network: str, folder: Path, *, side: int, **settings: object) -> tuple[Network, nn.Module]:
    """Our network with the weights of torchvision's of the same name, as a local file, and theirs."""
    torchvision = pytest.importorskip("torchvision")
    theirs = getattr(torchvision.models, network.removesuffix("_2014"))(weights=None).eval()
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    return build(network, side=side, weights=folder / "theirs.pth", **settings).eval(), theirs  # pyright: ignore[reportArgumentType]


def test_resnet50_answers_as_torchvision_does(tmp_path: Path) -> None:
    ours, theirs = rewritten("resnet50", tmp_path, side=64)
    theirs.fc = nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(images), theirs(images), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["alexnet_2014", "vgg16"])
def test_dense_layers_of_torchvision_find_their_place(network: str, tmp_path: Path) -> None:
    ours, theirs = rewritten(network, tmp_path, side=224)
    theirs.classifier = nn.Sequential(*list(theirs.get_submodule("classifier").children())[:-1])
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(images), theirs(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_names_alone_count_where_a_file_has_no_order(tmp_path: Path) -> None:
    # Safetensors sorts its tensors; taken by place, layers of one width would be exchanged without a word.
    ours = build("mri_cnn_test1", channels=1, side=8).features.state_dict()
    renamed = {f"the_{name}": tensor for name, tensor in ours.items() if not name.endswith("num_batches_tracked")}
    torch.save({name: tensor for name, tensor in renamed.items() if "dense1" not in name}, tmp_path / "shorter.pth")
    save_file(renamed, tmp_path / "sorted.safetensors")
    torch.save(renamed, tmp_path / "ordered.pth")
    taken = build("mri_cnn_test1", channels=1, side=8, weights=tmp_path / "ordered.pth").features.state_dict()
    assert all(torch.equal(taken[name], ours[name]) for name in ours)
    for name in ("sorted.safetensors", "shorter.pth"):
        with pytest.raises(WeightsError, match=f"{name} does not fit"):
            build("mri_cnn_test1", channels=1, side=8, weights=tmp_path / name)


# --- The heads of a study of transfer learning: everything frozen but the head, and the head with the last block ---


@pytest.mark.parametrize(
    ("network", "rule", "trainable"),
    [
        ("vgg16", "all_but_head", 4_097),
        ("vgg16", Freeze(through="features.23"), 4_097 + 3 * (512 * 512 * 9 + 512) + (25_088 * 4096 + 4096) + (4096 * 4096 + 4096)),
        ("resnet50", "all_but_head", 2_049),
        ("resnet50", Freeze(through="layer3"), 2_049 + 14_964_736),
        ("alexnet_2014", Freeze(through="conv5"), 4_097 + (9216 * 4096 + 4096) + (4096 * 4096 + 4096)),
    ],
)
def test_what_trains_after_freezing(network: str, rule: Freeze, trainable: int) -> None:
    built = drawn_nowhere(network, side=64, outputs="one")
    assert freeze(built, rule, sample=torch.zeros(1, 3, 64, 64, device="meta")).trainable == trainable


# --- Initialisers ---


def deviation(network: Network, name: str) -> float:
    return float(network.get_parameter(name).detach().std())


@pytest.mark.parametrize(("rule", "expected"), [("glorot", math.sqrt(2 / (32 * 9 + 32 * 9))), ("he", math.sqrt(2 / (32 * 9)))])
def test_an_initialiser_has_its_deviation(rule: str, expected: float) -> None:
    network = build("small_resnet", channels=1, side=16, initialiser=rule)
    assert deviation(network, "features.stage1.0.conv2.weight") == pytest.approx(expected, rel=0.05)
    assert float(network.get_parameter("features.stage1.0.norm1.weight").detach().min()) == 1  # norms stay


@pytest.mark.parametrize(("rule", "value"), [("zeros", 0), ("ones", 1)])
def test_an_initialiser_of_one_number(rule: str, value: float) -> None:
    network = build("mri_cnn_test1", channels=1, side=8, initialiser=rule)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert (module.weight == value).all()


def test_the_networks_of_keras_begin_as_keras_begins() -> None:
    network = build("mri_cnn_test1", channels=1, side=16)
    bound = math.sqrt(6 / (32 * 9 + 32 * 9))
    assert float(network.get_parameter("features.conv2.weight").detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert not network.get_parameter("features.conv2.bias").any()


def test_the_seed_decides_an_initialiser_too() -> None:
    def first(seed: int) -> torch.Tensor:
        model = ModelPart(initialiser="he")
        return build_network(model, classes=2, channels=1, height=16, width=16, seed=seed).get_parameter("head.1.weight")

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
