"""The ways to launch, by the name that --launch takes."""

from rhapsode.launch.kubernetes import KUBERNETES
from rhapsode.launch.skypilot import SKYPILOT
from rhapsode.launch.slurm import SLURM
from rhapsode.launch.torchrun import TORCHRUN

TARGETS = {"torchrun": TORCHRUN, "slurm": SLURM, "kubernetes": KUBERNETES, "skypilot": SKYPILOT}
