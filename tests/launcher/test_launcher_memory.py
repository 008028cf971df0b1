"""A kernel that the system killed for its memory: told from the system's own count of such kills."""

import pytest

from elyra_launcher import memory


@pytest.mark.parametrize(
    ("text", "count"),
    [("pgfault 12\noom_kill 3\nunused 7\n", 3), ("pgfault 12\n", 0), ("oom_kill\n", 0), ("oom_kill many\n", 0)],
)
def test_the_count_is_the_systems(monkeypatch, tmp_path, text, count):
    file = tmp_path / "vmstat"
    file.write_text(text)
    monkeypatch.setattr(memory, "COUNTERS", str(file))
    assert memory.kills() == count


def test_a_system_without_counters_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "COUNTERS", str(tmp_path / "nothing"))
    assert memory.kills() == 0
