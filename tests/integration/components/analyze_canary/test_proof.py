from pathlib import Path

import pytest

from components.analyze_canary.proof.__main__ import main

SPEC = Path(__file__).parents[4] / "manifests/models/support-assistant/base.yaml"


@pytest.mark.integration
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_proof_writes_its_tables_and_its_plot(tmp_path):
    """The proof run ends with 0 and leaves a report with its four sections, and a PNG plot."""
    assert main(["--plan", str(SPEC), "--output", str(tmp_path), "--runs", "1", "--plays", "1"]) == 0
    text = (tmp_path / "canary-judge.md").read_text()
    for heading in ("False alarms", "False safety", "Detection delay", "Whole canaries"):
        assert f"## {heading}" in text
    assert (tmp_path / "canary-judge.png").read_bytes().startswith(b"\x89PNG")
