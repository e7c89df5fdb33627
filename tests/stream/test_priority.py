"""Real-time priority: asked for in a process of its own, so that this one stays ordinary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import SettingError
from stream import priority

_ROOT = Path(__file__).parents[2]
_ASK = """
import os, threading
from models.errors import SettingError
from stream.priority import ask_for_real_time, be_ordinary, is_real_time
assert not is_real_time()
try:
    ask_for_real_time()
except SettingError as error:
    print("refused:", error)
else:
    said = []
    thread = threading.Thread(target=lambda: said.append(is_real_time()))
    thread.start()
    thread.join()
    print("given", is_real_time(), said[0])
    be_ordinary()
    print(is_real_time())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a priority")
def test_it_is_given_to_the_process_and_its_threads_or_refused_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ASK], cwd=_ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    if said[0].startswith("refused"):
        assert "rtprio 50" in said[0]
    else:
        assert said == ["given True True", "False"]


def test_who_may_not_have_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "SCHED_RR", 2, raising=False)
    monkeypatch.setattr(os, "sched_param", int, raising=False)
    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    with pytest.raises(SettingError, match=r"@audio - rtprio 50.*or leave --realtime out"):
        priority.ask_for_real_time()


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not priority.is_real_time()
    with pytest.raises(SettingError, match="needs Linux"):
        priority.ask_for_real_time()
