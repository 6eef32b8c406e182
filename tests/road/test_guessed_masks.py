"""A folder of images with masks is known as one, and asks for the names that it does not say."""

from __future__ import annotations

from pathlib import Path

from planted_masks import write_pictures
from verbs import Tabib


def test_pairs_ask_for_names(tabib: Tabib, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", patients=2)
    code, said = tabib("look", str(tmp_path / "pictures"))
    assert code == 2
    assert "numbers 1, 2" in said["error"]
    assert "--label NAME=1" in said["error"]
    code, said = tabib("look", str(tmp_path / "pictures"), "--label", "disc=1", "--label", "square=2")
    assert code == 0
    assert said["classes"] == {"disc": 4, "square": 4}
    code, said = tabib("look", str(tmp_path / "pictures"), "--set", "data.labels={disc: 1}", "--set", "data.ignored=[2]")
    assert code == 0
    assert said["classes"] == {"disc": 4}


def test_hearts_say_their_names(tabib: Tabib, tmp_path: Path) -> None:
    assert tabib("phantom", "heart", "-o", str(tmp_path / "heart"))[0] == 0
    code, said = tabib("look", str(tmp_path / "heart"))
    assert code == 0
    assert said["classes"].keys() == {"rv", "myocardium", "lv"}
