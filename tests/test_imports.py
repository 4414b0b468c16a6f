"""What importing and first using the library does to the process; each test looks at a fresh one."""

import subprocess
import sys


def run_python(code: str) -> str:
    """Run code in a new interpreter and return the last line that it prints."""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return finished.stdout.strip().splitlines()[-1]


def test_heavy_and_optional_packages_are_imported_when_used() -> None:
    code = "import sys, mixnn_loader; print({'pomegranate', 'nmslib', 'matplotlib', 'timm'} & set(sys.modules))"
    assert run_python(code) == "set()"


def test_fitting_a_mixture_leaves_the_number_of_threads_alone() -> None:
    code = (
        "import torch; torch.set_num_threads(1); from mixnn_loader.mixture import log_clean_posterior; "
        "log_clean_posterior(torch.cat([torch.rand(50), 5 + torch.rand(50)])); print(torch.get_num_threads())"
    )
    assert run_python(code) == "1"
