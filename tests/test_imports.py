"""What importing and first using the library does to a process; it takes a fresh one to see."""

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import json, random, sys, torch
torch.set_num_threads(1)
packages = {"matplotlib", "matplotlib.pyplot", "nmslib", "pomegranate", "timm"}

def loaded():
    return sorted(packages & set(sys.modules))

seen = {}
import mixnn_loader
from mixnn_loader.method.clean_probability import log_clean_posterior
from mixnn_loader.plots import plot_accuracy
seen["imported"] = loaded()
plot_accuracy({"a": [0.5]})
seen["plotted"] = loaded()
random.seed(0)
before = random.getstate()
log_clean_posterior(torch.cat([torch.rand(50), 5 + torch.rand(50)]))
seen["same_random_stream"] = random.getstate() == before
seen["fitted"] = loaded()
seen["num_threads"] = torch.get_num_threads()
print(json.dumps(seen))
"""


def seen_in_a_new_process() -> dict[str, Any]:
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    seen: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return seen


def test_packages_are_imported_when_used_and_leave_what_is_the_user_s() -> None:
    # One test, since a process takes seconds to start.
    seen = seen_in_a_new_process()
    assert seen["imported"] == []
    assert seen["plotted"] == ["matplotlib"], "and pyplot never"
    assert "pomegranate" in seen["fitted"]
    assert seen["num_threads"] == 1
    assert seen["same_random_stream"]
