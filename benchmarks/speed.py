"""Speed and memory, side by side with peers, as ratios of one run: `make bench`.

    python benchmarks/speed.py [step] [peers] [frozen] [look] [table] [memory] [start]

Absolute times on a shared machine mean little; the two sides of each ratio take turns, and medians are compared.
Real films are read from $TABIB_REAL_DATA or ../shared/data/chest_xray where they are, phantom films otherwise.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
REAL = Path(os.environ.get("TABIB_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")) / "chest_xray"
KERAS = Path(__file__).parents[1] / ".venv-keras"
BATCH, STEPS, ROUNDS, TURNS, THREADS = 64, 6, 5, 7, len(os.sched_getaffinity(0))


def films(folder: Path, count: int) -> Path:
    """A class folder of `count` films: links to real ones, or phantoms."""
    if REAL.exists():
        for label in ("NORMAL", "PNEUMONIA"):
            (folder / label).mkdir(parents=True)
            for film in sorted((REAL / "train" / label).iterdir())[: count // 2]:
                (folder / label / film.name).symlink_to(film.resolve())
    else:
        from tabib.phantoms import ChestFilms, make_chest_films

        make_chest_films(folder, ChestFilms(patients=count // 2, films_per_patient=(2, 2), side=224))
    return folder


def rate_of(*command: object) -> float:
    """The images per second that a peer prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["images_per_second"]


def show(name: str, ours: list[float], theirs: list[float], unit: str, *, wanted: str) -> None:
    """One row: both medians, and the median, least and largest of the ratios turn by turn."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    print(
        f"| {name} | {statistics.median(ours):.3g} | {statistics.median(theirs):.3g} {unit} | **{statistics.median(ratios):.2f}** "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {wanted} |",
        flush=True,
    )


def header(title: str) -> None:
    """Begin a table."""
    print(f"\n### {title}\n\n| what | ours | other | ratio, median (range) | wanted |\n|---|---|---|---|---|", flush=True)


def step() -> None:
    """A training step from the cache, augmented, against the same step on a ready-made batch, taking turns."""
    sys.path.insert(0, str(PEERS))
    from tabib_way import steps_on_cache, steps_on_ready_tensors

    with tempfile.TemporaryDirectory() as folder:
        ours = steps_on_cache(films(Path(folder) / "films", 640), Path(folder), batch=BATCH, threads=THREADS)
        ready = steps_on_ready_tensors(batch=BATCH)
        for work in (ours, ready):
            work(1)
        rates: dict[str, list[float]] = {"ours": [], "ready": []}
        for _ in range(TURNS):
            for name, work in (("ours", ours), ("ready", ready)):
                started = time.perf_counter()
                work(2)
                rates[name].append(2 * BATCH / (time.perf_counter() - started))
    header("Training step, tf_efficientnet_b2 at 128 x 128, batch 64, augmentation of report B")
    show("end to end / ready-made tensors", rates["ours"], rates["ready"], "img/s", wanted="0.95 to 1.02")


def peers() -> None:
    """A few training steps after warm-up, each turn in a process of its own: Tabib, Keras as report B used it, and a plain PyTorch script."""
    with tempfile.TemporaryDirectory() as folder:
        place = films(Path(folder) / "films", 640)
        commands: dict[str, list[object]] = {
            "tabib": [sys.executable, PEERS / "tabib_way.py", place, BATCH, STEPS, THREADS],
            "plain PyTorch, allocator as it comes": [sys.executable, PEERS / "plain_torch.py", place, BATCH, STEPS, THREADS, "plain"],
            "plain PyTorch, allocator tamed": [sys.executable, PEERS / "plain_torch.py", place, BATCH, STEPS, THREADS, "tamed"],
        }
        if KERAS.exists():
            commands["Keras, as report B used it"] = [KERAS / "bin" / "python", PEERS / "keras_way.py", place, BATCH, STEPS, THREADS]
        else:
            print(f"Keras is left out: python3 -m venv {KERAS.name} && {KERAS.name}/bin/pip install -r benchmarks/peers/keras.txt")
        rates: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                rates[name].append(rate_of(*command))
                print(f"{name}: {rates[name][-1]:.1f} img/s", file=sys.stderr, flush=True)
    header("Training steps, tf_efficientnet_b2 at 128 x 128, batch 64, augmentation of report B")
    wanted = {
        "plain PyTorch, allocator as it comes": "1.7",
        "plain PyTorch, allocator tamed": "1.1",
        "Keras, as report B used it": "1.7 (aim 2.2)",
    }
    for name in [name for name in rates if name != "tabib"]:
        show(f"tabib / {name}", rates["tabib"], rates[name], "img/s", wanted=f"at least {wanted[name]}")


def frozen() -> None:
    """A training of vgg16 with everything frozen but its head: features computed once, against in every epoch; phantom films."""
    from tabib.config import Augment, Study
    from tabib.dataset import index_folder, split_dataset
    from tabib.phantoms import ChestFilms, make_chest_films
    from tabib.records import Checks, Findings
    from tabib.training import train

    epochs, still = 3, {name: 0 for name, field in Augment.model_fields.items() if isinstance(field.default, float)} | {"fill_value": 0}
    spent: dict[str, list[float]] = {"compute": [], "keep": []}
    with tempfile.TemporaryDirectory() as folder:
        make_chest_films(Path(folder) / "films", ChestFilms(patients=100, films_per_patient=(2, 2), side=64))
        for how, seconds_of in spent.items():
            study = Study.model_validate(
                {
                    "name": "frozen",
                    "positive": "PNEUMONIA",
                    "data": {"folder": f"{folder}/films", "group": r"(patient\d+)"},
                    "input": {"height": 64, "width": 64, "channels": 1},
                    "augment": still,
                    "model": {"network": "vgg16", "freeze": "all_but_head"},
                    "training": {"epochs": epochs, "threads": THREADS, "device": "cpu", "precision": "fp32", "frozen_features": how},
                }
            )
            index = index_folder(study.data)
            split = split_dataset(index, Findings(findings=[]), study)
            checks = Checks(checks=[], initial_loss=0.7, expected_initial_loss=0.7, seconds_per_step=1, predicted_seconds=1)
            place = Path(folder) / how
            train(index, split, checks, study, place=place, cache_folder=Path(folder) / "cache")
            lines = next(place.glob("members/*/history.jsonl")).read_text().splitlines()
            seconds_of += [json.loads(line)["seconds"] for line in lines]
    header("An epoch of vgg16 with a frozen backbone, 64 x 64, no augmentation (after features are there)")
    show("features kept / computed in every epoch", spent["keep"], spent["compute"], "s", wanted="at most 0.1")


def look() -> None:
    """`tabib look` against decoding the same files once, with as many processes."""
    with tempfile.TemporaryDirectory() as folder:
        place = REAL if REAL.exists() else films(Path(folder) / "films", 1000)
        ours, theirs = [], []
        for turn in range(ROUNDS):
            ours.append(seconds(lambda turn=turn: run_quietly("look", place, "--runs", f"{folder}/runs{turn}")))
            theirs.append(seconds(lambda: subprocess.run([sys.executable, PEERS / "decode_once.py", place, str(THREADS)], check=True)))
    header("Looking at a folder of films")
    show("tabib look / decoding every file once", ours, theirs, "s", wanted="at most 4")


def table() -> None:
    """Listing a folder by a table of 100,000 lines against ten times that of 10,000; the files are empty, and none is opened."""
    from tabib.config import Data
    from tabib.dataset import list_folder

    spent: dict[int, list[float]] = {10_000: [], 100_000: []}
    with tempfile.TemporaryDirectory() as folder:
        for count in spent:
            place = Path(folder) / str(count)
            lines = ["path,label"]
            for number in range(count):
                if number % 1000 == 0:
                    (place / f"{number // 1000:03}").mkdir(parents=True)
                (place / f"{number // 1000:03}" / f"film{number:06}.png").touch()
                lines.append(f"film{number:06},{'ab'[number % 2]}")
            Path(f"{place}.csv").write_text("\n".join(lines), encoding="utf-8")
        for _ in range(ROUNDS):
            for count, times in spent.items():
                data = Data(folder=Path(folder) / str(count), layout="table", table=Path(folder) / f"{count}.csv")
                times.append(seconds(lambda data=data: list_folder(data)))
    header("Listing a folder by a table")
    show("100,000 lines / ten times 10,000 lines", spent[100_000], [10 * time for time in spent[10_000]], "s", wanted="at most 1.5")


def memory() -> None:
    """Anonymous memory of a training run at 1 and at 10 times the images."""
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (260, 2600):
            place = films(Path(folder) / f"films{count}", count)
            command = [sys.executable, str(PEERS / "tabib_way.py"), str(place), "16", "8", str(THREADS), "small_resnet"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            peaks[count] = peak_anonymous_mib(process.pid, lambda process=process: process.poll() is None)
            if process.wait():
                raise SystemExit("the training failed")
    few, many = peaks.values()
    print("\n### Anonymous memory of training (largest RssAnon of the process)\n\n| images | MiB |\n|---|---|")
    for count, peak in peaks.items():
        print(f"| {count} | {peak:.0f} |")
    print(f"\nTen times the images: **{many / few:.3f}** times the memory (wanted: at most 1.10)", flush=True)


def start() -> None:
    """`tabib --help` against the start of Python with typer."""
    bare = "import typer; app = typer.Typer(); app.command()(lambda: None); app(['--help'], standalone_mode=False)"
    ours, theirs = [], []
    for _ in range(4 * ROUNDS):
        ours.append(seconds(lambda: run_quietly("--help")))
        theirs.append(seconds(lambda: subprocess.run([sys.executable, "-c", bare], check=True, stdout=subprocess.DEVNULL)))
    header("Start")
    show("tabib --help / bare Python with typer", ours, theirs, "s", wanted="at most 3")


def run_quietly(*arguments: object) -> None:
    """The command line in a process of its own."""
    command = [sys.executable, "-c", "from tabib.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)


def seconds(work: Callable[[], object]) -> float:
    """How long work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_anonymous_mib(process: int | None, lives: Callable[[], bool]) -> float:
    """The largest RssAnon of a process, by its number, while it lives."""
    peak = 0
    while lives():
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            break
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        peak = max(peak, int(found.group(1)) if found else 0)
        time.sleep(0.02)
    return peak / 1024


def machine() -> str:
    """What this was measured on."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return f"{model.group(1) if model else 'unknown processor'}, {THREADS} cores"


PARTS = {"step": step, "peers": peers, "frozen": frozen, "look": look, "table": table, "memory": memory, "start": start}

if __name__ == "__main__":
    print(machine())
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
