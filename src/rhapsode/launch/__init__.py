"""Jobs for many machines, written from a recipe: torchrun, Slurm, Kubernetes and SkyPilot."""
