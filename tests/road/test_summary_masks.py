"""The summary of a segmenter: without data where the study says what the network sees, else of the resolved study."""

from __future__ import annotations

from pathlib import Path

from planted_masks import write_volumes
from tabib.config import Segmentation
from tabib.console import summary_lines
from tabib.study_file import load_study
from tabib.training import summarise_segmenter
from verbs import Tabib

STUDY = "task: segmentation\nname: s\ndata: {folder: volumes, labels: {disc: 1, square: 2}}\nmodel: {filters: [8, 16]}\n"


def test_it_reads_data_only_where_it_must(tabib: Tabib, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    write_volumes(tmp_path / "volumes")
    code, resolved = tabib("summary", str(file), "--runs", str(tmp_path / "runs"))
    assert (code, resolved["image"], resolved["classes"]) == (0, [1, 64, 64], 3)
    given = "--set", "input={channels: 1, patch: [64, 64], spacing_mm: [1.5, 1.5]}", "--set", "data.folder=nowhere"
    code, blind = tabib("summary", str(file), *given)
    assert (code, blind) == (0, resolved)
    code, said = tabib("summary", str(file), "--classes", "3")
    assert (code, "--classes counts" in said["error"]) == (2, True)


def test_its_lines_say_what_a_patch_costs(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(f"{STUDY}input: {{dimensions: 3, channels: 1, patch: [8, 32, 32], spacing_mm: keep}}\n")
    study = load_study(tmp_path / "study.yaml")
    assert isinstance(study, Segmentation)
    *layers, said = summary_lines(summarise_segmenter(study))[:-1]
    assert said.startswith("unet for patches of 8×32×32×1, background and 2 structures: 18,683 weights, 18,683 of them trainable; ")
    assert said.endswith(" million multiply-adds a patch")
    assert any("8×8×32×32" in line for line in layers)
