"""Run every benchmark that this machine can run, one after the other: `make bench`."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "scanning.py": "scan against a bare Pillow decode",
    "feeding.py": "batches from packed arrays against ImageFolder and DataLoader",
    "training_loop.py": "the training loop against a hand-written one",
    "baselines.py": "seconds of each baseline, and the features against a plain loop",
    "embedding.py": "features of a pretrained network against a bare forward pass",
    "serving.py": "one picture at a time through ONNX Runtime against eager torch, and the start",
    "leaks.py": "what the leak probe says of a random split and of one by group",
    "bootstrap.py": "bootstrap intervals against a loop over scikit-learn",
    "coverage.py": "do the 95 % intervals hold what they say",
    "decide.py": "how often a candidate that is no better is refused",
    "overhead.py": "what dvc repro spends beside the work",
    "scale.py": "seconds and memory as the number of images grows",
}


def main() -> int:
    """Run them all; the exit status is the number that failed."""
    if not Path("data/approved").is_dir() or not Path("data/raw/elpv").is_dir():
        sys.exit("convflow: the benchmarks read the solar cells; run `make repro DATA=elpv` first")
    failed = 0
    for script, title in SCRIPTS.items():
        print(f"\n== {title} (benchmarks/{script})", flush=True)
        failed += subprocess.run([sys.executable, HERE / script], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
