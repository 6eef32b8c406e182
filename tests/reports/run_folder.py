"""A complete made-up run folder: what a run leaves behind, without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from tabib.config import Study
from tabib.evaluation.measures import predictive_values
from tabib.images import THUMBNAIL_SIDE, encode_png
from tabib.metrics import net_benefit
from tabib.records import (
    GALLERY,
    INDEX_SCHEMA,
    SPLIT_SCHEMA,
    Checks,
    Confusion,
    Curve,
    Decision,
    Evaluation,
    Explained,
    Explanations,
    Finding,
    Findings,
    Measure,
    Member,
    Model,
    Neighbour,
    PartEvaluation,
    Record,
    Subgroup,
    prediction_schema,
)


@dataclass(frozen=True)
class Plan:
    """What the made-up run is like."""

    classes: Sequence[str] = ("NORMAL", "PNEUMONIA")
    patients: int = 90
    films: int = 3
    patients_known: bool = True
    unnamed: int = 0  # patients, from the first on, whose films do not name them
    members: int = 1
    epochs: int = 14
    files: bool = True  # whether the images lie in the data folder
    intervals: bool = True
    languages: Sequence[str] = ("en", "fa")
    seed: int = 0


def make_run(folder: Path, plan: Plan | None = None) -> tuple[Path, Study]:
    """Write a run folder below `folder`; returns it and its study."""
    plan = plan or Plan()
    draw = np.random.default_rng(plan.seed)
    run, data = folder / "run", folder / "films"
    (run / "model").mkdir(parents=True)
    study = _study(plan, data)
    index = _index(plan, data, draw)
    split = _split(plan, index, draw)
    index.write_parquet(run / "index.parquet")
    split.write_csv(run / "split.csv")
    _write(run / "findings.json", _findings(index))
    _write(run / "checks.json", _checks())
    model = _model(plan)
    _write(run / "model" / "model.json", model)
    decision = _decision(plan, split)
    _write(run / "model" / "decision.json", decision)
    predictions = _predictions(plan, split, decision, draw)
    predictions.write_parquet(run / "predictions.parquet")
    _write(run / "evaluation.json", _evaluation(plan, predictions, decision))
    _explanations(run / "explanations", split, predictions, draw)
    for member in model.members:
        _history(run / "model" / "members" / member.name, member, draw)
    _augmented(run / "model" / "augmented", split, draw)
    (run / "manifest.json").write_text(json.dumps(_manifest(study), ensure_ascii=False))
    return run, study


def _write(path: Path, record: Record) -> None:
    path.write_text(record.model_dump_json(indent=1))


def _study(plan: Plan, data: Path) -> Study:
    return Study.model_validate(
        {
            "name": "made_up_films",
            "title": {"en": "Pneumonia on chest X-ray", "fa": "ذات‌الریه در پرتونگاری قفسهٔ سینه"},
            "positive": plan.classes[-1] if len(plan.classes) == 2 else None,
            "data": {"folder": data, "group": r"(patient\d+)" if plan.patients_known else None},
            "input": {"height": 96, "width": 96, "channels": 1},
            "model": {"network": "small_resnet", "head": [64], "dropout": [0.3]},
            "training": {"epochs": plan.epochs, "class_weights": "balanced", "best": "auc", "seeds": list(range(plan.members))},
            "goals": {"auc": 0.95, "sensitivity": 0.9} if len(plan.classes) == 2 else {"accuracy": 0.9},
            "report": {"languages": list(plan.languages)},
            "notes": {
                "problem": {
                    "en": "Can a small network tell films with pneumonia from healthy ones, so that a clinic without a radiologist at night knows which film to have read first?",
                    "fa": "آیا شبکه‌ای کوچک می‌تواند پرتونگاری‌های دچار ذات‌الریه را از سالم جدا کند تا درمانگاهی که شب رادیولوژیست ندارد بداند کدام تصویر زودتر خوانده شود؟",
                },
                "suggestions": {"en": "Judge it on films of another hospital.", "fa": "سنجش با تصاویر بیمارستانی دیگر."},
            },
        }
    )


def _film(draw: np.random.Generator, kind: int, side: int = 112) -> np.ndarray:
    """A grey chest-like picture: two dark lungs, and up to eight bright spots, as its class says."""
    y, x = np.mgrid[0:side, 0:side] / side
    picture = 150 - 60 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    for centre in (0.32, 0.68):
        picture -= 105 * np.exp(-((((x - centre) / 0.13) ** 2 + ((y - 0.48) / 0.27) ** 2) ** 2))
    picture += 60 * np.exp(-(((x - 0.5) / 0.05) ** 2))
    for _ in range(min(kind, 4) * 2):
        cx, cy = draw.choice([0.32, 0.68]) + draw.normal(0, 0.05), 0.48 + draw.normal(0, 0.12)
        picture += 75 * np.exp(-(((x - cx) / 0.07) ** 2 + ((y - cy) / 0.07) ** 2))
    return np.clip(picture + draw.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def _index(plan: Plan, data: Path, draw: np.random.Generator) -> pl.DataFrame:
    rows = []
    for patient in range(plan.patients):
        kind = patient % len(plan.classes) if patient < 0.7 * plan.patients else len(plan.classes) - 1
        for film in range(int(draw.integers(1, plan.films + 1))):
            name = plan.classes[kind]
            path = f"{name}/patient{patient:03d}_film{film + 1}.png"
            pixels = _film(draw, kind)
            if plan.files:
                (data / name).mkdir(parents=True, exist_ok=True)
                (data / path).write_bytes(encode_png(pixels))
            broken = patient == plan.patients - 1
            rows.append(
                {
                    "path": path,
                    "label": name,
                    "group": f"patient{patient:03d}" if plan.patients_known and patient >= plan.unnamed else None,
                    "refused": "the file ends before the picture does" if broken else None,
                    "content": hashlib.sha256(path.encode()).hexdigest(),
                    "pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
                    "thumbnail": None if broken else pixels[:: 112 // THUMBNAIL_SIDE, :: 112 // THUMBNAIL_SIDE][:32, :32].tobytes(),
                    "bytes": 9000,
                    "format": "PNG",
                    "height": 112,
                    "width": 112,
                    "channels": 1,
                    "bits": 8,
                    "colour": False,
                    "mode": "L",
                    "mean": float(pixels.mean() / 255),
                    "contrast": float(pixels.std() / 255),
                    "border": 0.0,
                }
            )
    columns = {name: [row.get(name) for row in rows] for name in INDEX_SCHEMA}
    columns["row"] = list(range(len(rows)))
    return pl.DataFrame(columns, schema=INDEX_SCHEMA)


def _split(plan: Plan, index: pl.DataFrame, draw: np.random.Generator) -> pl.DataFrame:
    rows = []
    for row in index.iter_rows(named=True):
        patient = int(row["path"].split("patient")[1][:3])
        part = ("train", "train", "train", "validation", "test", "test")[patient // len(plan.classes) % 6]
        reason = "refused" if row["refused"] else "copy of another image" if row["row"] % 61 == 60 else None
        group = row["group"] or f"cluster{row['row']:04d}"
        rows.append({**row, "group": group, "part": "left_out" if reason else part, "fold": None, "reason": reason})
    return pl.DataFrame({name: [row[name] for row in rows] for name in SPLIT_SCHEMA}, schema=SPLIT_SCHEMA)


def _findings(index: pl.DataFrame) -> Findings:
    refused = index.drop_nulls("refused")["row"].to_list()
    return Findings(
        findings=[
            Finding(code="unreadable_files", level="warn", figures={"files": len(refused)}, rows=refused),
            Finding(
                code="made_up_code", level="warn", figures={"share": 0.125, "name": "NORMAL <b>&"}, rows=list(range(20)), page_one=True
            ),
            Finding(code="made_up_code", level="warn", figures={"share": 0.25, "name": "b"}, rows=list(range(20, 40)), page_one=True),
        ]
    )


def _checks() -> Checks:
    return Checks(checks=[], initial_loss=0.7012, expected_initial_loss=0.6931, seconds_per_step=0.08, predicted_seconds=95.0)


def _model(plan: Plan) -> Model:
    members = [
        Member(
            name=f"seed{seed}",
            seed=seed,
            fold=None,
            epochs=plan.epochs,
            best_epoch=max(1, plan.epochs - 4 - seed),
            best_value=0.963 - 0.01 * seed,
            train_images=60,
            train={"loss": 0.11, "auc": 0.991, "accuracy": 0.97, "balanced_accuracy": 0.965, "spread": 0.4},
            weights_sha256=hashlib.sha256(bytes([seed])).hexdigest(),
            seconds=83.4,
        )
        for seed in range(plan.members)
    ]
    return Model(
        network="small_resnet",
        classes=list(plan.classes),
        positive=plan.classes[-1] if len(plan.classes) == 2 else None,
        channels=1,
        height=96,
        width=96,
        weights_total=700_466,
        weights_trainable=700_466,
        weights_source="none",
        weights_source_sha256=None,
        members=members,
    )


def _decision(plan: Plan, split: pl.DataFrame) -> Decision:
    validation = split.filter(pl.col("part") == "validation")
    two = len(plan.classes) == 2
    return Decision(
        classes=list(plan.classes),
        positive=plan.classes[-1] if two else None,
        temperature=1.37,
        threshold=0.41 if two else None,
        rule="youden" if two else "argmax",
        weights_sha256=[f"{number:x}" * 64 for number in range(2)],
        validation_rows=validation.height,
        validation_groups=validation["group"].n_unique(),
        log_loss_before=0.31,
        log_loss_after=0.27,
    )


def _predictions(plan: Plan, split: pl.DataFrame, decision: Decision, draw: np.random.Generator) -> pl.DataFrame:
    rows = []
    for row in split.filter(pl.col("part").is_in(["validation", "test"])).iter_rows(named=True):
        truth = plan.classes.index(row["label"])
        scores = draw.normal(0, 1.1, len(plan.classes))
        scores[truth] += 2.6
        p = np.exp(scores) / np.exp(scores).sum()
        best = plan.classes[int(p.argmax())]
        if decision.threshold is not None:
            best = plan.classes[1] if p[1] >= decision.threshold else plan.classes[0]
        chances = {f"p_{name}": float(value) for name, value in zip(plan.classes, p, strict=True)}
        rows.append(
            {**{name: row[name] for name in ("row", "path", "group", "part", "label")}, "predicted": best, "refused": None, **chances}
        )
    return pl.DataFrame(rows, schema=prediction_schema(list(plan.classes)))


def _measure(plan: Plan, name: str, value: float | None, half: float, frame: pl.DataFrame, **more: object) -> Measure:
    low, high = (None, None) if value is None or not plan.intervals else (max(0.0, value - half), min(1.0, value + half))
    return Measure.model_validate(
        {
            "name": name,
            "value": value,
            "low": low,
            "high": high,
            "method": "none" if low is None else "bootstrap_t",
            "rows": frame.height,
            "groups": frame["group"].n_unique(),
            **more,
        }
    )


def _part(plan: Plan, part: str, predictions: pl.DataFrame, goals: dict[str, float]) -> PartEvaluation:
    frame = predictions.filter(pl.col("part") == part)
    truth = np.array([plan.classes.index(name) for name in frame["label"]])
    guess = np.array([plan.classes.index(name) for name in frame["predicted"]])
    p = frame.select([f"p_{name}" for name in plan.classes]).to_numpy()
    two = len(plan.classes) == 2
    majority = float(np.bincount(truth).max() / truth.size)
    facts = {"majority_class": majority, "file_facts": 0.52, "mean_intensity": 0.61}
    measures, curves = [], []
    for k, name in enumerate(plan.classes):
        is_class, said = truth == k, guess == k
        tp, fp = int((is_class & said).sum()), int((~is_class & said).sum())
        fn, tn = int((is_class & ~said).sum()), int((~is_class & ~said).sum())
        of = {"of": None if two else name}
        if not two or k == 1:
            auc = float(roc_auc_score(is_class, p[:, k]))
            measures += [
                _measure(
                    plan,
                    "auc",
                    auc,
                    0.03,
                    frame,
                    goal=goals.get("auc"),
                    baselines={"file_facts": 0.52, "mean_intensity": 0.61} if two else {},
                    **of,
                ),
                _measure(plan, "sensitivity", tp / (tp + fn), 0.08, frame, goal=goals.get("sensitivity"), **of),
                _measure(plan, "specificity", tn / (tn + fp), 0.06, frame, **of),
                _measure(plan, "ppv", tp / (tp + fp) if tp + fp else None, 0.07, frame, **of),
                _measure(plan, "npv", tn / (tn + fn), 0.07, frame, **of),
                _measure(plan, "f1", 2 * tp / (2 * tp + fp + fn), 0.05, frame, **of),
                _measure(plan, "average_precision", float(average_precision_score(is_class, p[:, k])), 0.05, frame, **of),
            ]
        fpr, tpr, _ = roc_curve(is_class, p[:, k])
        precision, recall, _ = precision_recall_curve(is_class, p[:, k])
        bins = np.clip((p[:, k] * 8).astype(int), 0, 7)
        held = [b for b in range(8) if (bins == b).any()]
        curves += [
            Curve(name="roc", of=name, x=list(fpr), y=list(tpr)),
            Curve(name="precision_recall", of=name, x=list(recall), y=list(precision)),
            Curve(
                name="calibration",
                of=name,
                x=[float(p[bins == b, k].mean()) for b in held],
                y=[float(is_class[bins == b].mean()) for b in held],
                counts=[int((bins == b).sum()) for b in held],
            ),
        ]
        if two and k == 1:
            at = np.arange(1, 100) / 100
            curves.append(Curve(name="net_benefit", of=name, x=at.tolist(), y=net_benefit(is_class, p[:, k], at).tolist()))
    accuracy = float((truth == guess).mean())
    measures = [
        _measure(plan, "accuracy", accuracy, 0.04, frame, baselines=facts, goal=goals.get("accuracy")),
        _measure(plan, "balanced_accuracy", accuracy - 0.01, 0.05, frame, baselines={"majority_class": 1 / len(plan.classes)}),
        *measures,
        _measure(plan, "mcc", 0.74, 0.08, frame),
        _measure(plan, "brier", 0.11, 0.03, frame),
        _measure(plan, "ece", 0.041, 0.02, frame, approximate=True),
        _measure(plan, "log_loss", 0.29, 0.06, frame, undefined_draws=3),
    ]
    if not two:
        measures += [
            _measure(plan, "auc", 0.94, 0.03, frame, of="macro"),
            _measure(plan, "f1", 0.86, 0.03, frame, of="macro"),
            _measure(plan, "f1", 0.87, 0.03, frame, of="weighted"),
        ]
    rows, best = frame["row"].to_numpy(), p.max(1)
    cells = []
    for i, true in enumerate(plan.classes):
        for j, said in enumerate(plan.classes):
            here = np.flatnonzero((truth == i) & (guess == j))
            here = here[np.argsort(-best[here])]
            cells.append(Confusion(truth=true, predicted=said, count=len(here), rows=[int(rows[k]) for k in here]))
    counts = {name: int((truth == k).sum()) for k, name in enumerate(plan.classes)}
    return PartEvaluation.model_validate(
        {
            "part": part,
            "rows": frame.height,
            "groups": frame["group"].n_unique(),
            "refused": 0,
            "class_counts": counts,
            "measures": measures,
            "confusion": cells,
            "curves": curves,
        }
    )


def _evaluation(plan: Plan, predictions: pl.DataFrame, decision: Decision) -> Evaluation:
    goals = {"auc": 0.95, "sensitivity": 0.9} if len(plan.classes) == 2 else {"accuracy": 0.9}
    parts = [_part(plan, part, predictions, goals if part == "test" else {}) for part in ("validation", "test")]
    test = predictions.filter(pl.col("part") == "test")
    of_truth = [row[f"p_{row['label']}"] for row in test.iter_rows(named=True)]
    order = np.argsort(of_truth)
    rows = test["row"].to_list()
    both = [{each.name: each for each in part.measures if each.of is None} for part in parts]
    gap = [
        Measure(
            name=name,
            value=after.value - before.value,
            low=after.value - before.value - 0.05,
            high=after.value - before.value + 0.05,
            method="bootstrap",
        )
        for name in ("accuracy", "balanced_accuracy")
        for before, after in [(both[0][name], both[1][name])]
        if before.value is not None and after.value is not None
    ]
    return Evaluation(
        classes=list(plan.classes),
        positive=decision.positive,
        threshold=decision.threshold,
        patients="unknown" if not plan.patients_known else "partly" if plan.unnamed else "known",
        parts=parts,
        gap=gap,
        prevalence=0.05 if decision.positive else None,
        at_prevalence=predictive_values(parts[1].measures, 0.05) if decision.positive else [],
        subgroups=_subgroups(plan, parts[1]),
        remarks=[],
        worst=[rows[k] for k in order[:GALLERY]],
        random=rows[1::7][:GALLERY],
        confidence=0.95,
        draws=2000,
        test_looks=1,
    )


def _subgroups(plan: Plan, test: PartEvaluation) -> list[Subgroup]:
    """A hospital, a third of the ages, the unknown and the joined rest, with the measures of the whole a little off."""
    chosen = [each for each in test.measures if each.name in ("auc", "sensitivity", "specificity") and each.of is None]
    kinds = [("site", "St. <b>Mary</b>", "St. <b>Mary</b>", 0), ("age", 41.0, 63.5, 0), ("age", None, None, 0), ("site", None, None, 5)]
    return [
        Subgroup(
            column=column,
            low=low,
            high=high,
            joined=joined,
            rows=test.rows // 2,
            groups=test.groups // 2,
            measures=[each.model_copy(update={"goal": None, "baselines": {}}) for each in chosen],
            differences=[each.model_copy(update={"value": -0.1, "low": -0.15, "high": -0.05}) for each in chosen],
        )
        for column, low, high, joined in kinds
        if chosen
    ]


def _history(folder: Path, member: Member, draw: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    lines = []
    for epoch in range(1, member.epochs + 1):
        falls = float(np.exp(-epoch / 4))
        lines.append(
            {
                "epoch": epoch,
                "step": epoch * 12,
                "learning_rate": 1e-3 * float(np.sin(np.pi * epoch / (member.epochs + 1))),
                "train_loss": 0.08 + 0.62 * falls,
                "validation_loss": 0.24 + 0.45 * falls + 0.004 * epoch + float(draw.normal(0, 0.015)),
                "validation_auc": 0.965 - 0.4 * falls + float(draw.normal(0, 0.006)),
                "validation_accuracy": 0.92 - 0.4 * falls,
                "validation_balanced_accuracy": 0.9 - 0.4 * falls,
                "seconds": 5.9,
                "images_per_second": 64.0,
            }
        )
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _augmented(folder: Path, split: pl.DataFrame, draw: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for row in split.filter(pl.col("part") == "train")["row"].head(3):
        film = _film(draw, 1, 96)
        (folder / f"{row}.png").write_bytes(encode_png(film))
        for k in range(5):
            (folder / f"{row}_{k}.png").write_bytes(encode_png(np.roll(film, int(draw.integers(-8, 8)), axis=1)))


def _explanations(folder: Path, split: pl.DataFrame, predictions: pl.DataFrame, draw: np.random.Generator) -> None:
    """Two mistakes and two right answers; the neighbours of the first are all of one patient."""
    folder.mkdir(parents=True)
    test = predictions.filter(pl.col("part") == "test")
    train = split.filter(pl.col("part") == "train").head(8).to_dicts()
    wrong, right = (test.filter((pl.col("predicted") == pl.col("label")) == same).head(2) for same in (False, True))
    images = []
    for number, row in enumerate(pl.concat([wrong, right]).iter_rows(named=True)):
        mistake = row["predicted"] != row["label"]
        kinds = ["image", "gradcam", *(["gradcam_truth"] if mistake else []), "occlusion"]
        near = [
            Neighbour(row=each["row"], label=each["label"], group="one" if number == 0 else each["group"], distance=0.0125 * (place + 1))
            for place, each in enumerate(train[number : number + 3])
        ]
        images.append(
            Explained(
                row=row["row"],
                path=row["path"],
                chosen="mistake" if mistake else "right",
                label=row["label"],
                predicted=row["predicted"],
                probability=row[f"p_{row['predicted']}"],
                covered=0.31,
                pictures={kind: f"{row['row']}_{kind}.png" for kind in kinds},
                neighbours=near,
            )
        )
    layers = {"stem": f"{images[0].row}_layer_1.png"}
    for name in [*(name for each in images for name in each.pictures.values()), *layers.values()]:
        (folder / name).write_bytes(encode_png(np.stack([_film(draw, 1, 160)] * 3, axis=-1)))
    figures = {"head": 0.6, "half": 0.3, "all": 0.0412, "compared": 12}
    remark = Finding.model_validate({"code": "heat_maps_change", "level": "pass", "figures": figures})
    _write(folder / "explanations.json", Explanations(images=images, layer="stage3", feature_maps=layers, remarks=[remark]))


def _manifest(study: Study) -> dict[str, object]:
    return {
        "study": study.name,
        "command": ["tabib", "run", "studies/made_up_films.yaml"],
        "started": "2025-11-02T08:11:05+00:00",
        "seeds": {"split": 0, "training": study.training.seeds},
        "python": "3.11.2",
        "packages": {"numpy": "2.4.0", "polars": "2.1.0", "torch": "2.15.0"},
        "system": "Linux x86_64",
        "processor": "A made-up processor",
        "cores": 2,
        "memory_gib": 7.6,
        "data_sha256": hashlib.sha256(b"data").hexdigest(),
        "given": study.model_dump(mode="json"),
        "finished": "2025-11-02T08:14:25+00:00",
        "seconds": {"index": 2.1, "model": 83.4},
        "weights_sha256": {"seed0": hashlib.sha256(b"w").hexdigest()},
    }
